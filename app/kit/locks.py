"""The keys of PostgreSQL's advisory locks: any numbers, each of one meaning in every process."""

UPGRADE = 7_226_001
ATTRIBUTION = 7_226_002
COLLIDING_ENROLMENTS = 7_226_003
CREDIT_LIMIT = 7_226_004  # with the partner as second key
LOOK_BACK = 7_226_005
WEBHOOK_ENDPOINTS = 7_226_006  # with the partner as second key
