"""The words themselves, by language and outcome: warm, short, and saying what to do next."""

import re
from collections.abc import Mapping

_ENGLISH = {
    "repost": (
        "A repost does not load an offer. Write a post of your own with the offer's hashtag."
    ),
    "suspected_abuse": (
        "This post was not counted, because the account does not meet the rules of the programme. "
        "If that seems wrong, please ask for help."
    ),
    "opted_out": ("You asked us to stop, so nothing was loaded and we did not reply."),
    "too_many_offers": (
        "Your post names several offers, and only the first ones count. For “{title}” at "
        "{partner}, please post again with that one alone."
    ),
    "not_started": (
        "You are early! “{title}” at {partner} starts on {starts}. Please post again then."
    ),
    "ended": (
        "“{title}” at {partner} ended on {ended}. It is too late for this one, but there will be "
        "others."
    ),
    "paused": (
        "“{title}” at {partner} is taking a short break. Please post again in a little while."
    ),
    "outside_hours": (
        "Not right now: “{title}” at {partner} runs on certain days or at certain hours only. "
        "Please post again then."
    ),
    "not_linked": (
        "Nice find! “{title}” at {partner} can give you {reward}. Link your card to this account "
        "once: our profile shows where. Within a week, it loads by itself."
    ),
    "card_inactive": (
        "Almost there! The card you linked is not active, so “{title}” at {partner} could not be "
        "loaded. Link a card that is, then post again."
    ),
    "already_loaded": (
        "You already have “{title}” at {partner}: it is one per person. If you have not used it "
        "yet, just pay with your card{until}, {where}{minimum}."
    ),
    "not_eligible": (
        "Thank you for posting! “{title}” at {partner} is for certain customers, and this time "
        "you are not among them. There will be other offers."
    ),
    "too_frequent": (
        "You have loaded many offers lately, so “{title}” at {partner} could not be added. Enjoy "
        "those you have, and try again in a few days."
    ),
    "sold_out": (
        "So close! Every coupon of “{title}” at {partner} has been taken. Keep an eye out for the "
        "next offer."
    ),
    "budget_spent": (
        "So close! All the money for “{title}” at {partner} has been given away. Keep an eye out "
        "for the next offer."
    ),
    "loaded": (
        "Done! {reward} at {partner} is on your card. Pay with it{until}, {where}{minimum}."
    ),
}


def _french(sentence: str) -> str:
    """A blank before a sign of punctuation must not break."""
    return re.sub(" (?=[!?:»])|(?<=«) ", "\u00a0", sentence)


_FRENCH = {
    outcome: _french(sentence)
    for outcome, sentence in {
        "repost": (
            "Un repost ne charge pas d'offre. Écrivez votre propre post avec le hashtag de l'offre."
        ),
        "suspected_abuse": (
            "Ce post n'a pas été compté, car le compte ne respecte pas les règles du programme. "
            "Si cela vous semble une erreur, demandez de l'aide."
        ),
        "opted_out": (
            "Vous nous avez demandé d'arrêter : rien n'a été chargé et nous n'avons pas répondu."
        ),
        "too_many_offers": (
            "Votre post cite plusieurs offres et seules les premières comptent. Pour « {title} » "
            "chez {partner}, publiez un autre post avec cette offre seule."
        ),
        "not_started": (
            "Vous êtes en avance ! « {title} » chez {partner} commence le {starts}. Publiez à "
            "nouveau à ce moment-là."
        ),
        "ended": (
            "« {title} » chez {partner} s'est terminée le {ended}. C'est trop tard pour cette "
            "offre, mais il y en aura d'autres."
        ),
        "paused": (
            "« {title} » chez {partner} fait une courte pause. Publiez à nouveau un peu plus tard."
        ),
        "outside_hours": (
            "Pas tout de suite : « {title} » chez {partner} n'est ouverte que certains jours ou à "
            "certaines heures. Publiez à nouveau à ce moment-là."
        ),
        "not_linked": (
            "Bien vu ! « {title} » chez {partner} peut vous offrir {reward}. Liez une fois votre "
            "carte à ce compte : notre profil dit où. Sous une semaine, elle se charge seule."
        ),
        "card_inactive": (
            "Presque ! La carte que vous avez liée n'est pas active, et « {title} » chez {partner} "
            "n'a pas pu être chargée. Liez une carte qui le soit, puis publiez à nouveau."
        ),
        "already_loaded": (
            "Vous avez déjà « {title} » chez {partner} : c'est une fois par personne. Si elle vous "
            "reste, payez simplement avec votre carte{until}, {where}{minimum}."
        ),
        "not_eligible": (
            "Merci pour votre post ! « {title} » chez {partner} est réservée à certains clients, "
            "et cette fois vous n'en faites pas partie. Il y aura d'autres offres."
        ),
        "too_frequent": (
            "Vous avez chargé beaucoup d'offres ces derniers temps : « {title} » chez {partner} "
            "n'a pas pu être ajoutée. Profitez de celles que vous avez et réessayez dans quelques "
            "jours."
        ),
        "sold_out": (
            "De justesse ! Tous les coupons de « {title} » chez {partner} ont été pris. Guettez la "
            "prochaine offre."
        ),
        "budget_spent": (
            "De justesse ! Tout l'argent prévu pour « {title} » chez {partner} a été distribué. "
            "Guettez la prochaine offre."
        ),
        "loaded": (
            "C'est fait ! Sur votre carte : {reward} chez {partner}. Payez avec elle{until}, "
            "{where}{minimum}."
        ),
    }.items()
}

ANNOUNCEMENTS: Mapping[str, str] = {
    "en": (
        "“{title}” at {partner}: {reward}. Post #{hashtag} and mention @{handle} by {last_day}, "
        "then pay with your linked card, {where}{minimum}. One per person. Not linked yet? Our "
        "profile shows how."
    ),
    "fr": _french(
        "« {title} » chez {partner} : {reward}. Publiez #{hashtag} en mentionnant @{handle} "
        "jusqu'au {last_day}, puis payez avec votre carte liée, {where}{minimum}. Une fois par "
        "personne. Pas encore liée ? Notre profil dit comment."
    ),
}
FAREWELLS: Mapping[str, str] = {
    "en": (
        "You are stopped: we load no offers for you any more, do not answer your posts, and write "
        "to you no more. If you ever want to come back, sign in again and agree: our profile shows "
        "where."
    ),
    "fr": _french(
        "C'est arrêté : nous ne chargeons plus d'offres pour vous, nous ne répondons plus à vos "
        "posts et nous ne vous écrirons plus. Pour revenir un jour, connectez-vous à nouveau et "
        "donnez votre accord : notre profil dit où."
    ),
}

SENTENCES: Mapping[str, Mapping[str, str]] = {"en": _ENGLISH, "fr": _FRENCH}
PHRASES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "fixed": "{amount} back",
        "share": "{percent} back (up to {amount})",
        "any": "in the shop or online",
        "in_store": "in the shop",
        "online": "online",
        "until": " by {day}",
        "minimum": ", min. spend {amount}",
        "day": "d MMM",
        "day_of_year": "d MMM y",
        "moment": "{day} at {time}",
    },
    "fr": {
        "fixed": "{amount} de remboursement",
        "share": "{percent} de remboursement (jusqu'à {amount})",
        "any": "en boutique ou en ligne",
        "in_store": "en boutique",
        "online": "en ligne",
        "until": " jusqu'au {day}",
        "minimum": ", dès {amount} d'achat",
        "day": "d MMMM",
        "day_of_year": "d MMMM y",
        "moment": "{day} à {time}",
    },
}
