from marq.webhooks.signing import PREFIX, headers, new_secret

# The example of Standard Webhooks' own documentation
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_signature_is_that_of_the_specification():
    assert headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_new_secret_is_another():
    first, second = new_secret(), new_secret()
    assert first != second
    assert first.startswith(PREFIX)
