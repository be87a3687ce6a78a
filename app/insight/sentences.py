"""What a card-holder is told who asks why, in English and French."""

from collections.abc import Mapping

POST_UNKNOWN: Mapping[str, str] = {
    "en": "No post of this id named an offer. Either it has not reached us, or its hashtags are "
    "not those of an offer that ran at that time.",
    "fr": "Aucun post de ce numéro ne citait une offre. Soit il ne nous est pas parvenu, soit ses "
    "hashtags ne sont pas ceux d'une offre qui courait à ce moment-là.",
}
POST_REJECTED: Mapping[str, str] = {
    "en": "The post could not be stored: {reason}.",
    "fr": "Le post n'a pas pu être enregistré : {reason}.",
}
POST_REMOVED: Mapping[str, str] = {
    "en": "The post was deleted, so what identified it has been removed here too. A coupon that it "
    "had loaded before stays.",
    "fr": "Le post a été supprimé ; ce qui l'identifiait a donc été effacé ici aussi. Un coupon "
    "qu'il avait chargé auparavant reste.",
}
LINKED_TOO_LATE: Mapping[str, str] = {
    "en": "When you linked your account, the last day of a coupon of “{title}” from this post had "
    "passed.",
    "fr": "Quand vous avez lié votre compte, le dernier jour d'un coupon de « {title} » tiré de ce "
    "post était passé.",
}
DECIDED_AGAIN: Mapping[str, str] = {
    "en": "Your account was not linked when you posted; once it was, the post was looked at again.",
    "fr": "Votre compte n'était pas lié au moment du post ; une fois lié, le post a été réexaminé.",
}
PURCHASE_UNKNOWN: Mapping[str, str] = {
    "en": "We have kept no transaction of this id. Either it has not reached us, or its card is "
    "not linked, or the shop is not one of the programme's.",
    "fr": "Nous n'avons gardé aucune transaction de ce numéro. Soit elle ne nous est pas parvenue, "
    "soit la carte n'est pas liée, soit le commerce ne fait pas partie du programme.",
}

# by the redemption's state, or the reason of a rejection
PURCHASES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "pending": "Your purchase at {place} fits “{title}”. The money back follows once the shop "
        "has settled the payment.",
        "earned": "{reward} comes back to you for {spend} spent at {place}, by “{title}”.",
        "returned": "Your purchase at {place} was refunded, so its money back was taken back too.",
        "below_minimum": "You spent {spend} at {place}; “{title}” asks for at least {minimum}.",
        "channel": "“{title}” is not for purchases made {channel}.",
        "acceptor": "“{title}” does not include {place}.",
        "currency": "“{title}” is in {offer_currency}, and this purchase was in {currency}.",
        "late": "The payment was settled after “{title}” had been closed.",
        "used_up": "“{title}” had been used already.",
        "reversed": "The payment at {place} was declined or cancelled before it was settled.",
        "lapsed": "The shop at {place} never settled the payment.",
        "none": "No coupon of yours was valid at {place} when you paid.",
        "unmatched": "This refund names no purchase, and no purchase of the card at {place} in the "
        "180 days before it fits.",
    },
    "fr": {
        "pending": "Votre achat chez {place} correspond à « {title} ». Le remboursement suit dès "
        "que le commerce a encaissé le paiement.",
        "earned": "{reward} vous sont remboursés pour {spend} dépensés chez {place}, grâce à "
        "« {title} ».",
        "returned": "Votre achat chez {place} a été remboursé ; l'avantage a donc été repris.",
        "below_minimum": "Vous avez dépensé {spend} chez {place} ; « {title} » demande au moins "
        "{minimum}.",
        "channel": "« {title} » ne vaut pas pour les achats {channel}.",
        "acceptor": "« {title} » ne comprend pas {place}.",
        "currency": "« {title} » est en {offer_currency}, et cet achat était en {currency}.",
        "late": "Le paiement a été encaissé après la clôture de « {title} ».",
        "used_up": "« {title} » avait déjà servi.",
        "reversed": "Le paiement chez {place} a été refusé ou annulé avant l'encaissement.",
        "lapsed": "Le commerce {place} n'a jamais encaissé le paiement.",
        "none": "Aucun de vos coupons n'était valable chez {place} au moment du paiement.",
        "unmatched": "Cet avoir ne nomme aucun achat, et aucun achat de la carte chez {place} dans "
        "les 180 jours précédents n'y correspond.",
    },
}

CHANNELS: Mapping[str, Mapping[str, str]] = {
    "en": {"in_store": "in the shop", "online": "online"},
    "fr": {"in_store": "en boutique", "online": "en ligne"},
}
