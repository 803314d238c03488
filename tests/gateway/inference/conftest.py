import pytest
from thread_replica import ThreadReplica, make_spec

from gateway.auth.tokens import Tokens
from gateway.inference.predictor import Predictor
from gateway.inference.request_hooks import ObservedPredictor
from gateway.routing.routes import Routes
from marq.connections import clients
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.replies.entries import Reply
from marq.registry.models import Registry
from marq.settings.fields import Settings

SPEC = make_spec("m", min_workers=1, max_workers=1, job_queue_size=3)
LIMIT = 1000


@pytest.fixture
async def make(redis_url):
    """make(hooks, required): predictors over a real broker. `make.routes`, `make.broker`: their parts."""
    with clients.client(redis_url) as client:
        Registry(client).register(SPEC)
    routes, broker = Routes(Settings(redis_url=redis_url)), Broker(redis_url)
    await broker.start()
    await routes.refresh()

    def make(hooks=(), required=False):
        parts = routes, broker, make.jobs, Tokens(required), LIMIT
        return ObservedPredictor(*parts, hooks) if hooks else Predictor(*parts)

    make.routes, make.broker, make.jobs = routes, broker, Jobs(broker)
    yield make
    make.jobs.stop()
    await broker.stop()


@pytest.fixture
def replica(redis_url):
    """Answers with the body, backwards; a body of `?` with status 418."""

    def answer(request):
        return Reply(request.id, 418 if request.body == b"?" else 200, request.body[::-1])

    replica = ThreadReplica(redis_url, SPEC, answer)
    yield replica
    replica.stop()
