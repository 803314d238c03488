import ssl

import certificates
import pytest

from marq.host import certificates as tls
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError


@pytest.fixture
def pair(tmp_path):
    return certificates.make(tmp_path)


def https(tmp_path, **given) -> Settings:
    address = {"inference_address": "https://127.0.0.1:1"}
    return Settings(state_dir=tmp_path / "state", **(address | given))


def test_without_https_nothing_is_needed(tmp_path):
    settings = Settings(
        state_dir=tmp_path, private_key_file=tmp_path / "no", certificate_file=tmp_path / "no"
    )
    assert tls.prepare(settings) is settings
    assert tls.certificate(settings) == ""


def test_a_pem_pair_is_used_as_it_is(tmp_path, pair):
    settings = https(tmp_path, private_key_file=pair.key, certificate_file=pair.certificate)
    assert tls.prepare(settings) == settings
    assert tls.certificate(settings) == str(pair.certificate)
    assert tls.context(settings).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_keystore_becomes_a_pem_file_of_the_users_own_and_its_password_goes_no_further(tmp_path, pair):
    prepared = tls.prepare(https(tmp_path, keystore=pair.keystore, keystore_pass=pair.password))
    assert prepared.private_key_file == prepared.certificate_file == tmp_path / "state/run/tls.pem"
    assert prepared.private_key_file.stat().st_mode & 0o777 == 0o600
    assert pair.certificate.read_bytes() in prepared.certificate_file.read_bytes()
    assert pair.password not in str(prepared.environment())
    tls.context(prepared)


def test_a_keystore_wins_over_a_pem_pair(tmp_path, pair):
    (tmp_path / "other").mkdir()
    other = certificates.make(tmp_path / "other")
    given = https(
        tmp_path, keystore=other.keystore, private_key_file=pair.key, certificate_file=pair.certificate
    )
    assert other.certificate.read_bytes() in tls.prepare(given).certificate_file.read_bytes()


@pytest.mark.parametrize("name", ["inference_address", "management_address", "metrics_address"])
def test_an_https_address_without_a_certificate_says_what_to_set(tmp_path, name):
    settings = Settings(state_dir=tmp_path, **{name: "https://127.0.0.1:7"})
    with pytest.raises(SettingsError) as caught:
        tls.prepare(settings)
    assert str(caught.value).startswith(
        f"{name}: https://127.0.0.1:7 needs a certificate: set private_key_file"
    )
    assert "keystore_type=PKCS12" in str(caught.value)


def test_an_https_metrics_address_that_is_off_needs_none(tmp_path):
    settings = Settings(state_dir=tmp_path, metrics_address="https://127.0.0.1:7", enable_metrics_api=False)
    assert tls.prepare(settings) is settings


def test_a_wrong_password_is_told_without_it(tmp_path, pair):
    with pytest.raises(SettingsError, match=r"keystore\.p12 cannot be read.*Check keystore_pass") as caught:
        tls.prepare(https(tmp_path, keystore=pair.keystore, keystore_pass="geheim"))
    assert "geheim" not in str(caught.value)


def test_javas_own_keystores_are_told_how_to_convert(tmp_path, pair):
    with pytest.raises(SettingsError, match=r"only PKCS12 can be read, not JKS.*keytool -importkeystore"):
        tls.prepare(https(tmp_path, keystore=pair.keystore, keystore_type="JKS"))


def test_a_key_that_does_not_belong_to_the_certificate_is_told(tmp_path, pair):
    (tmp_path / "other").mkdir()
    other = certificates.make(tmp_path / "other")
    with pytest.raises(SettingsError, match="belong together"):
        tls.prepare(https(tmp_path, private_key_file=other.key, certificate_file=pair.certificate))


def test_files_that_are_not_there_are_named(tmp_path, pair):
    with pytest.raises(SettingsError, match=r"no\.pem cannot be used: .*No such file"):
        tls.prepare(https(tmp_path, private_key_file=tmp_path / "no.pem", certificate_file=pair.certificate))


@pytest.mark.parametrize("days", [30, -3])
def test_it_is_known_for_how_long_a_certificate_is_good(tmp_path, days):
    pair = certificates.make(tmp_path, days)
    settings = https(tmp_path, keystore=pair.keystore)
    assert tls.days_left(settings) == days
    assert not (tmp_path / "state").exists()
