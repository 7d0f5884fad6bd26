"""The Redis storage. Nothing here imports the driver before a storage is made."""

from infinitic_storages.redis.settings import RedisSettings as RedisSettings
from infinitic_storages.redis.storage import RedisStorage as RedisStorage

__all__ = ["RedisSettings", "RedisStorage"]
