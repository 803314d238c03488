import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from marq.connections import clients
from marq.registry import token_store


def test_the_key_file_is_whole_and_the_users_alone_also_when_many_write_it(
    redis_url: str, tmp_path: Path
) -> None:
    def write(_: int) -> tuple[int, set[str]]:
        with clients.client(redis_url) as client:
            token_store.write_key_file(tmp_path, client)
        path = tmp_path / token_store.KEY_FILE
        return path.stat().st_mode & 0o777, set(json.loads(path.read_text()))

    with clients.client(redis_url) as client:
        token_store.create(client, 60)
    with ThreadPoolExecutor(8) as executor:
        seen = list(executor.map(write, range(400)))
    assert all(found == (0o600, {"inference", "management", "API"}) for found in seen)
    assert [path.name for path in tmp_path.iterdir()] == [token_store.KEY_FILE]
