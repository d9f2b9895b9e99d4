"""Tests of solo_jax/checkpoints/refusals.py; hub_test.py causes the errors."""

import requests
from requests import exceptions

from solo_jax.checkpoints.refusals import explain, explain_status

ADDRESS = "https://host.example/x.pth"


def test_errors_that_are_final_are_not_retried():
  cases = {
    exceptions.ProxyError("407"): ("HTTPS_PROXY", True),
    exceptions.SSLError("self-signed"): ("SSL_CERT_FILE", True),
    exceptions.InvalidURL("bad"): ("is not a usable address", True),
    exceptions.ConnectTimeout(): ("does not answer", False),
    exceptions.ReadTimeout(): ("stopped sending", False),
    exceptions.ChunkedEncodingError("x"): ("was cut", False),
    exceptions.ConnectionError("Failed to resolve"): ("is unknown", True),
    exceptions.ConnectionError("Connection aborted"): ("was cut", False),
  }
  for error, (words, is_final) in cases.items():
    reason = explain(error, ADDRESS)
    assert words in reason.text and reason.is_final == is_final
    assert "host.example" in reason.text


def test_long_reasons_are_cut():
  reason = explain(exceptions.SSLError("x" * 5000), ADDRESS)
  assert len(reason.text) < 500


def test_unusual_statuses_are_explained():
  response = requests.Response()
  response.url, response.reason = ADDRESS, "Odd"
  for status, words in (
    (418, "refused (418 Odd)"),
    (503, "server error (503)"),
  ):
    response.status_code = status
    assert words in explain_status(response)
