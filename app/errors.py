"""What a caller can do something about. Each has an HTTP status and a stable code; the text is for
people. `main` turns them into RFC 9457 problems, the command line into one line and exit status 1.

TagbackError
├── Invalid          422  the request is understood and cannot be done as it stands
├── NotAuthenticated 401
├── Forbidden        403
├── NotFound         404
├── Conflict         409  the state of things does not allow it
├── PreconditionFailed 412  somebody else has changed it meanwhile
├── TooManyRequests  429  again in `retry_seconds`
└── Unavailable      503  not now: try again
"""


class TagbackError(Exception):
    status = 500
    code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class Invalid(TagbackError):
    status = 422
    code = "invalid"


class NotAuthenticated(TagbackError):
    status = 401
    code = "not_authenticated"


class Forbidden(TagbackError):
    status = 403
    code = "forbidden"


class NotFound(TagbackError):
    status = 404
    code = "not_found"


class Conflict(TagbackError):
    status = 409
    code = "conflict"


class PreconditionFailed(TagbackError):
    status = 412
    code = "precondition_failed"


class TooManyRequests(TagbackError):
    status = 429
    code = "too_many_requests"

    def __init__(self, detail: str, *, retry_seconds: int) -> None:
        super().__init__(detail)
        self.retry_seconds = retry_seconds


class Unavailable(TagbackError):
    status = 503
    code = "unavailable"
