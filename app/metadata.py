"""Every table of every context, for migrations."""

from app.claims import models as claims
from app.insight import models as insight
from app.kit.db import Base
from app.ledger import models as ledger
from app.linking import models as linking
from app.members import models as members
from app.networks import models as networks
from app.notifications import models as notifications
from app.offers import models as offers
from app.partners import models as partners
from app.posts import models as posts
from app.redemptions import models as redemptions
from app.replies import models as replies
from app.testclock import models as testclock

CONTEXTS = (
    claims,
    insight,
    ledger,
    linking,
    members,
    networks,
    notifications,
    offers,
    partners,
    posts,
    redemptions,
    replies,
    testclock,
)
metadata = Base.metadata
