import json

import pytest

from marq import errors
from marq.errors import MarqError, ServiceError


def all_of(base: type) -> list[type]:
    return [base, *(found for below in base.__subclasses__() for found in all_of(below))]


SERVICE_ERRORS = [kind for kind in all_of(ServiceError) if kind.__module__ == errors.__name__]


def test_an_error_looks_as_torchserve_prints_it():
    body = errors.ModelNotFound("Model not found: größe").body()
    assert body.decode() == (
        '{\n  "code": 404,\n  "type": "ModelNotFoundException",\n  "message": "Model not found: größe"\n}\n'
    )


@pytest.mark.parametrize("kind", SERVICE_ERRORS)
def test_every_error_knows_its_answer(kind):
    error = kind("what happened")
    assert 400 <= error.status < 600
    assert json.loads(error.body()) == {
        "code": error.status, "type": error.type, "message": "what happened",
    }  # fmt: skip
    assert str(error) == error.message == "what happened"
    assert isinstance(error, MarqError)


@pytest.mark.parametrize(
    ("kind", "status", "type_"),
    [
        (errors.ServiceError, 500, "InternalServerException"),
        (errors.BadRequest, 400, "BadRequestException"),
        (errors.InvalidToken, 400, "InvalidKeyException"),
        (errors.Unauthorized, 401, "Unauthorized"),
        (errors.InvalidModelVersion, 403, "InvalidModelVersionException"),
        (errors.ResourceNotFound, 404, "ResourceNotFoundException"),
        (errors.ModelNotFound, 404, "ModelNotFoundException"),
        (errors.ModelVersionNotFound, 404, "ModelVersionNotFoundException"),
        (errors.MethodNotAllowed, 405, "MethodNotAllowedException"),
        (errors.RequestTimeout, 408, "RequestTimeoutException"),
        (errors.Conflict, 409, "ConflictStatusException"),
        (errors.RequestTooLarge, 413, "RequestTooLargeException"),
        (errors.ServiceUnavailable, 503, "ServiceUnavailableException"),
        (errors.DeadlineExceeded, 504, "RequestTimeoutException"),
        (errors.WorkerFailed, 500, "InternalServerException"),
    ],
)
def test_errors_have_torchserves_names_and_statuses(kind, status, type_):
    assert (kind.status, kind.type) == (status, type_)


def test_a_status_may_be_given_to_one_error_alone():
    assert errors.WorkerFailed("x", 507).status == 507
    assert errors.WorkerFailed("x").status == 500


def test_a_missing_token_says_how_to_log_in():
    assert errors.Unauthorized("x").headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("kind", [errors.ResourceNotFound, errors.MethodNotAllowed])
def test_unknown_paths_and_methods_refer_to_the_api_document(kind):
    assert kind().message.endswith("please refer to API document.")
