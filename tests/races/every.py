"""Every race, those first that the programme was promised not to lose."""

from tests.races import coupons, offers, purchases
from tests.races.race import Race

RACES: list[type[Race]] = [
    coupons.LastCoupon,
    coupons.LastCent,
    coupons.PauseAgainstEnrol,
    purchases.RefundAgainstClearing,
    coupons.TwoHandles,
    coupons.EditAgainstLoad,
    purchases.CloseAgainstClearing,
    coupons.SamePost,
    coupons.EditedPost,
    coupons.FrequencyCap,
    purchases.LastUse,
    purchases.ManyParts,
    purchases.UnlinkedRefunds,
    purchases.SameTransaction,
    purchases.LapseAgainstClearing,
    purchases.CreditsAgainstRefund,
    offers.PauseAgainstClock,
    offers.SameTag,
    offers.CreditLimit,
]
