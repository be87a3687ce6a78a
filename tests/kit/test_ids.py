from app.kit.ids import new_id


class TestNewId:
    def test_the_ids_of_one_process_rise(self):
        """Two coupons that one post loads are told apart by nothing else."""
        ids = [new_id() for _ in range(20_000)]
        assert ids == sorted(set(ids))

    def test_is_a_uuid_of_version_7(self):
        made = new_id()
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"
