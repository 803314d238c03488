from types import SimpleNamespace


class KvCacheConfig(SimpleNamespace):
    pass
