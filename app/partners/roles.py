from typing import Literal

Role = Literal["operator", "issuer", "processor", "partner", "analyst"]
