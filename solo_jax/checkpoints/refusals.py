"""Messages for failed downloads, one per cause."""

import dataclasses

import requests


@dataclasses.dataclass(frozen=True)
class Reason:
  """The reason why a server could not be reached.

  Attributes:
    text: Message for the user, with what to do.
    is_final: Whether another attempt would fail in the same way.
  """

  text: str
  is_final: bool


def explain(error: requests.RequestException, address: str) -> Reason:
  """Returns the reason for a network error.

  Args:
    error: Raised by `requests`.
    address: Address of the download.

  Returns:
    The reason.
  """
  host = address.split("/")[2] if "://" in address else address
  cause = str(error)
  if isinstance(error, requests.exceptions.ProxyError):
    return Reason(
      f"the proxy refused or cannot be reached on the way to {host}; check "
      f"HTTPS_PROXY (and NO_PROXY, user and password in it): {_short(cause)}",
      True,
    )
  if isinstance(error, requests.exceptions.SSLError):
    return Reason(
      f"the certificate of {host} cannot be verified. If your company has "
      "its own certificates, set SSL_CERT_FILE to its file (.pem); "
      f"verification is never switched off: {_short(cause)}",
      True,
    )
  if isinstance(
    error,
    requests.exceptions.InvalidURL
    | requests.exceptions.MissingSchema
    | requests.exceptions.InvalidSchema
    | requests.exceptions.TooManyRedirects,
  ):
    return Reason(f"{address} is not a usable address: {_short(cause)}", True)
  if isinstance(error, requests.exceptions.ConnectTimeout):
    return Reason(f"{host} does not answer; is there a network?", False)
  if isinstance(error, requests.exceptions.Timeout):
    return Reason(f"{host} stopped sending; nothing was kept", False)
  if "resol" in cause.lower() or "getaddrinfo" in cause:
    return Reason(
      f"{host} is unknown: no network, no name server, or a misspelled "
      f"address. Without a network, download {address} elsewhere and pass the "
      "file",
      True,
    )
  if isinstance(error, requests.exceptions.ConnectionError) and (
    "NewConnectionError" in cause or "refused" in cause
  ):
    return Reason(
      f"{host} cannot be reached; check the network and HTTPS_PROXY, or "
      f"download {address} elsewhere and pass the file",
      True,
    )
  return Reason(
    f"the connection to {host} was cut ({_short(cause)}); nothing was kept, "
    "try again",
    False,
  )


def explain_status(response: requests.Response) -> str:
  """Returns the reason why a server refused a request.

  Args:
    response: Its answer, with a status from 400.
  """
  status, address = response.status_code, response.url
  if status == 401:
    return (
      f"{address} needs authentication (401): the model is private or "
      "misspelled; set HF_TOKEN to a token that may read it"
    )
  if status == 403:
    return (
      f"{address} may not be read (403): agree to its licence on its page "
      "while logged in, and set HF_TOKEN"
    )
  if status in (404, 410):
    return f"{address} does not exist ({status}); check the spelling"
  if status == 407:
    return "the proxy needs user and password (407); set them in HTTPS_PROXY"
  if status == 429:
    return f"{address} has too many requests (429); try again later"
  if status >= 500:
    return f"{address}: server error ({status}); try again later"
  return f"{address} refused ({status} {response.reason})"


def _short(text: str) -> str:
  return text if len(text) <= 200 else f"{text[:200]} ..."
