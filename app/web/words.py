"""What the pages say, in English and French."""

import re
from collections.abc import Mapping

# Whoever changes the words of the consent gives them a new version: it is kept with each consent.
CONSENT_VERSION = "page-1"

_ENGLISH = {
    "title": "Link your X account to your card",
    "lead": "Link them once. Then post an offer's hashtag, pay with your card, and money comes "
    "back.",
    "steps": "Three steps",
    "step_x": "Sign in with X",
    "x_why": "X tells us who you are, once. We cannot post for you, and keep no access to your "
    "account.",
    "x_button": "Sign in with X",
    "x_done": "You are signed in as @{handle}.",
    "x_other": "Use another X account",
    "step_card": "Bring your card",
    "card_how": "Open the link to this page in the app of your bank: it brings your card along. We "
    "never ask for a card number.",
    "card_done": "Your card: {card}.",
    "card": "{network} ending in {last4}",
    "card_of": "{network}",
    "card_ending": "ending in {last4}",
    "card_unnamed": "the one that your bank has named",
    "no_card": "no active card",
    "and": " and ",
    "step_consent": "Agree",
    "consent_later": "You agree once you have signed in and your card is here. Until then nothing "
    "is linked.",
    "consent_what": "What is linked: your X account @{handle} and your card, {card}.",
    "consent_for": "What for: when you post the hashtag of an offer, a coupon is loaded on your "
    "card; when you pay with it, your bank tells us of the purchase and the money comes back.",
    "consent_reads": "What we look at: your public posts with an offer's hashtag, those of the "
    "last seven days too, and your purchases with this card at the programme's shops. We do not "
    "keep the words of your posts.",
    "consent_seen": "Who sees it: a shop sees that an offer led to a purchase, and never your "
    "name, your handle or your card.",
    "consent_stop": "How to stop: say “stop” in a post that mentions us or in a message to us, or "
    "come back to this page to stop or unlink, at any time.",
    "consent_version": "Text {version}",
    "consent_box": "I agree that my X account @{handle} is linked to this card.",
    "consent_button": "Link them",
    "linked": "You are linked",
    "linked_what": "@{handle} is linked to your card: {card}.",
    "next": "What is next: post the hashtag of an offer and mention @{programme}, like this:",
    "next_unnamed": "What is next: post the hashtag of an offer and mention us.",
    "example": "#Offer @{programme}",
    "stop": "Stop",
    "stop_what": "We answer you no more and load nothing more. Coupons that you have stay yours.",
    "stop_button": "Stop answering and loading",
    "stopped_title": "You have said stop",
    "stopped_what": "@{handle} is linked to your card ({card}), but we do not answer you and load "
    "nothing.",
    "again": "Start again",
    "again_button": "Start again",
    "unlink": "Unlink",
    "unlink_what": "@{handle} is taken off your card and loads nothing more. Coupons that you "
    "have, and the money from them, stay yours.",
    "unlink_box": "Yes, unlink @{handle}.",
    "unlink_button": "Unlink @{handle}",
    "back": "Back to the page",
    "unlinked": "It is done: your account is no longer linked.",
    "stopped": "Done: we answer no more and load nothing more.",
    "agreed": "It is done.",
    # what went wrong, and the way on
    "not_set_up": "Linking is not open yet: please come back later.",
    "no_cookie": "Your browser has kept no cookie of ours, which this page needs to know you by. "
    "Allow cookies for this site, then try again.",
    "csrf": "This did not come from our page, or the page was open for too long. Nothing was "
    "changed: go back to the page and try again.",
    "session_over": "That took a while, and for your safety we have forgotten where you were. "
    "Please start again: sign in with X, and open the link in the app of your bank once more.",
    "state": "This sign-in was not begun in this browser, or it was finished already. Please sign "
    "in with X again, from here.",
    "declined": "You have not allowed it at X, so nothing was linked. If you change your mind, "
    "sign in with X again.",
    "x_refused": "X did not accept the sign-in. Please try again in a moment.",
    "code_too_late": "X allows 30 seconds for the way back, and they had passed. Please sign in "
    "with X again.",
    "x_unavailable": "X does not answer right now. Please try again in a minute or two.",
    "too_many_sign_ins": "You have tried to sign in very often. Please wait for a quarter of an "
    "hour, then try again.",
    "handoff_expired": "The link from your bank has expired: it is good for a few minutes. Please "
    "open it once more in the app of your bank.",
    "handoff_used": "The link from your bank has been used already. Please open it once more in "
    "the app of your bank.",
    "handoff_refused": "This link is not one that your bank has made for this page. Please open it "
    "once more in the app of your bank.",
    "handoff_changed": "The card here has changed: a link for another customer of your bank was "
    "opened in this browser. Go on only if these are the last four digits of your own card.",
    "account_taken": "Your X account is linked already, to a card of somebody else. If both are "
    "yours, unlink it below first; or sign in with another X account.",
    "already_linked": "Your X account and this card are linked already: there is nothing left to "
    "do.",
    "card_taken": "This card is linked already, for somebody else. Please ask your bank.",
    "card_state": "This card has been replaced or removed since the link was made. Please open the "
    "link in the app of your bank once more, for the card that you have now.",
    "too_many": "There are too many cards or X accounts already. Please ask your bank to remove "
    "one.",
    "consent_missing": "Nothing was linked: please tick the box if you agree.",
    "changed": "What you would agree to has changed meanwhile. Please read it once more.",
    "unlink_unsure": "Nothing was unlinked: please tick the box if you are sure.",
    "unavailable": "Something here does not work right now. Nothing was changed: please try again "
    "in a minute.",
}

_FRENCH = {
    "title": "Liez votre compte X à votre carte",
    "lead": "Liez-les une fois. Ensuite, publiez le hashtag d'une offre, payez avec votre carte, "
    "et l'argent vous revient.",
    "steps": "Trois étapes",
    "step_x": "Connectez-vous avec X",
    "x_why": "X nous dit qui vous êtes, une seule fois. Nous ne pouvons rien publier pour vous et "
    "ne gardons aucun accès à votre compte.",
    "x_button": "Se connecter avec X",
    "x_done": "Vous êtes connecté en tant que @{handle}.",
    "x_other": "Utiliser un autre compte X",
    "step_card": "Apportez votre carte",
    "card_how": "Ouvrez le lien vers cette page dans l'application de votre banque : il apporte "
    "votre carte. Nous ne demandons jamais de numéro de carte.",
    "card_done": "Votre carte : {card}.",
    "card": "{network} se terminant par {last4}",
    "card_of": "{network}",
    "card_ending": "se terminant par {last4}",
    "card_unnamed": "celle que votre banque a désignée",
    "no_card": "aucune carte active",
    "and": " et ",
    "step_consent": "Donnez votre accord",
    "consent_later": "Vous donnez votre accord une fois connecté et votre carte présente. D'ici "
    "là, rien n'est lié.",
    "consent_what": "Ce qui est lié : votre compte X @{handle} et votre carte, {card}.",
    "consent_for": "Pourquoi : quand vous publiez le hashtag d'une offre, un coupon est chargé sur "
    "votre carte ; quand vous payez avec elle, votre banque nous signale l'achat et l'argent vous "
    "revient.",
    "consent_reads": "Ce que nous regardons : vos posts publics avec le hashtag d'une offre, y "
    "compris ceux des sept derniers jours, et vos achats avec cette carte dans les commerces du "
    "programme. Nous ne gardons pas le texte de vos posts.",
    "consent_seen": "Qui le voit : un commerce voit qu'une offre a mené à un achat, jamais votre "
    "nom, votre compte ni votre carte.",
    "consent_stop": "Comment arrêter : dites « stop » dans un post qui nous mentionne ou dans un "
    "message, ou revenez sur cette page pour arrêter ou délier, à tout moment.",
    "consent_version": "Texte {version}",
    "consent_box": "J'accepte que mon compte X @{handle} soit lié à cette carte.",
    "consent_button": "Lier les deux",
    "linked": "Vous êtes lié",
    "linked_what": "@{handle} est lié à votre carte : {card}.",
    "next": "Et maintenant : publiez le hashtag d'une offre et mentionnez @{programme}, ainsi :",
    "next_unnamed": "Et maintenant : publiez le hashtag d'une offre et mentionnez-nous.",
    "example": "#Offer @{programme}",
    "stop": "Arrêter",
    "stop_what": "Nous ne vous répondons plus et ne chargeons plus rien. Les coupons que vous avez "
    "restent à vous.",
    "stop_button": "Ne plus répondre ni charger",
    "stopped_title": "Vous avez dit stop",
    "stopped_what": "@{handle} est lié à votre carte ({card}), mais nous ne vous répondons pas et "
    "ne chargeons rien.",
    "again": "Recommencer",
    "again_button": "Recommencer",
    "unlink": "Délier",
    "unlink_what": "@{handle} est retiré de votre carte et ne charge plus rien. Les coupons que "
    "vous avez, et leur argent, restent à vous.",
    "unlink_box": "Oui, délier @{handle}.",
    "unlink_button": "Délier @{handle}",
    "back": "Revenir à la page",
    "unlinked": "C'est fait : votre compte n'est plus lié.",
    "stopped": "C'est fait : nous ne répondons plus et ne chargeons plus rien.",
    "agreed": "C'est fait.",
    "not_set_up": "La liaison n'est pas encore ouverte : revenez plus tard.",
    "no_cookie": "Votre navigateur n'a gardé aucun cookie de notre part, et cette page en a besoin "
    "pour vous reconnaître. Autorisez les cookies pour ce site, puis réessayez.",
    "csrf": "Cela ne venait pas de notre page, ou la page est restée ouverte trop longtemps. Rien "
    "n'a changé : revenez à la page et réessayez.",
    "session_over": "Cela a pris du temps et, pour votre sécurité, nous avons oublié où vous en "
    "étiez. Recommencez : connectez-vous avec X et rouvrez le lien dans l'application de votre "
    "banque.",
    "state": "Cette connexion n'a pas été commencée dans ce navigateur, ou elle est déjà terminée. "
    "Connectez-vous à nouveau avec X, d'ici.",
    "declined": "Vous n'avez pas donné l'autorisation sur X : rien n'a été lié. Si vous changez "
    "d'avis, connectez-vous à nouveau avec X.",
    "x_refused": "X n'a pas accepté la connexion. Réessayez dans un instant.",
    "code_too_late": "X accorde 30 secondes pour le retour, et elles étaient passées. "
    "Connectez-vous à nouveau avec X.",
    "x_unavailable": "X ne répond pas en ce moment. Réessayez dans une minute ou deux.",
    "too_many_sign_ins": "Vous avez essayé de vous connecter très souvent. Attendez un quart "
    "d'heure, puis réessayez.",
    "handoff_expired": "Le lien de votre banque a expiré : il vaut quelques minutes. Rouvrez-le "
    "dans l'application de votre banque.",
    "handoff_used": "Le lien de votre banque a déjà servi. Rouvrez-le dans l'application de votre "
    "banque.",
    "handoff_refused": "Ce lien n'est pas de ceux que votre banque a faits pour cette page. "
    "Rouvrez-le dans l'application de votre banque.",
    "handoff_changed": "La carte a changé ici : un lien pour un autre client de votre banque a été "
    "ouvert dans ce navigateur. Ne continuez que si ces quatre derniers chiffres sont ceux de "
    "votre carte.",
    "account_taken": "Votre compte X est déjà lié, à une carte de quelqu'un d'autre. Si les deux "
    "sont à vous, déliez-le d'abord ci-dessous ; ou connectez-vous avec un autre compte X.",
    "already_linked": "Votre compte X et cette carte sont déjà liés : il ne reste rien à faire.",
    "card_taken": "Cette carte est déjà liée, pour quelqu'un d'autre. Voyez avec votre banque.",
    "card_state": "Cette carte a été remplacée ou retirée depuis que le lien a été fait. "
    "Rouvrez-le dans l'application de votre banque, pour la carte que vous avez maintenant.",
    "too_many": "Il y a déjà trop de cartes ou de comptes X. Demandez à votre banque d'en retirer.",
    "consent_missing": "Rien n'a été lié : cochez la case si vous êtes d'accord.",
    "changed": "Ce que vous accepteriez a changé entre-temps. Relisez-le, s'il vous plaît.",
    "unlink_unsure": "Rien n'a été délié : cochez la case si vous êtes sûr.",
    "unavailable": "Quelque chose ne marche pas ici en ce moment. Rien n'a changé : réessayez dans "
    "une minute.",
}

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": _ENGLISH,
    # A blank before a sign of punctuation must not break, as French has it.
    "fr": {
        name: re.sub(" (?=[!:;»])|(?<=«) ", "\u00a0", sentence)
        for name, sentence in _FRENCH.items()
    },
}

# By which a page may be told what has just happened: as good news, or as an alert.
GOOD_NEWS = frozenset({"unlinked", "stopped", "agreed"})
PROBLEMS = frozenset(
    {
        "not_set_up", "no_cookie", "session_over", "changed", "consent_missing", "unlink_unsure",
        "state", "declined", "x_refused", "code_too_late", "x_unavailable", "too_many_sign_ins",
        "handoff_expired", "handoff_used", "handoff_refused",
        "account_taken", "already_linked", "card_taken", "card_state", "too_many",
    }
)  # fmt: skip
