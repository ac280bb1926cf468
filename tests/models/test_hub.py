import http.server
import socket
import threading
import time

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.models import hub
from hpa_search.models.build import build_network
from hpa_search.models.weights import check_weights, load_pretrained

CONFIG = TrialConfig(backbone="test_resnet", small_size=64, weights="timm")
FILE = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


@pytest.fixture
def use_hub(monkeypatch, tmp_path):
    """Return a function that makes an address the hub's, with an empty cache."""

    def use(port: int) -> None:
        constants = huggingface_hub.constants
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return use


@pytest.fixture
def silent(use_hub):
    """Someone takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        use_hub(server.getsockname()[1])
        yield


@pytest.fixture
def small_hub(use_hub, tmp_path):
    """A hub on this machine with a single file; ``asked`` holds its requests."""
    model = timm.create_model("test_resnet")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            server.asked.append((self.command, self.path))
            self.send_response(503 if server.in_trouble else 200 if self.path == FILE else 404)
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.model, server.in_trouble = [], model, False
    use_hub(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_hub_that_says_nothing_is_given_up_within_seconds(silent, monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    started = time.perf_counter()
    with pytest.raises(UserError, match="weights: timm's hub cannot be reached from here") as refusal:
        check_weights(CONFIG)
    assert time.perf_counter() - started < 15  # timm and its hub need a minute
    assert "download http://127.0.0.1" in str(refusal.value)
    assert str(refusal.value).endswith("weights: /path/to/model.safetensors")
    assert "\n" not in str(refusal.value)


def test_a_hub_that_is_not_there_is_given_up_at_once(use_hub):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    use_hub(port)
    started = time.perf_counter()
    with pytest.raises(UserError, match="cannot be reached from here .*refused"):
        check_weights(CONFIG)
    assert time.perf_counter() - started < 15  # timm and its hub need a minute


@pytest.mark.long
def test_a_trial_waits_for_a_hub_that_is_in_trouble(small_hub):
    small_hub.in_trouble = True
    with pytest.raises(hub.HubAway):
        check_weights(CONFIG)
    threading.Timer(2.0, lambda: setattr(small_hub, "in_trouble", False)).start()
    network = build_network(CONFIG, [0.1] * 4, [0.1] * 4)
    load_pretrained(network, CONFIG)
    for name, weight in network.backbone.state_dict().items():
        torch.testing.assert_close(weight, small_hub.model.state_dict()[name], rtol=0, atol=0)


def test_weights_without_a_hub_of_their_own_are_asked_for_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = hub.published("legacy_seresnet18")
    entry.url = "http://127.0.0.1:9/seresnet18-4bb0ce65.pth"
    monkeypatch.setattr(hub, "published", lambda backbone: entry)
    with pytest.raises(UserError, match="download http://127.0.0.1:9/.* /path/to/seresnet18-4bb0ce65.pth$"):
        hub.require_reachable("legacy_seresnet18")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "seresnet18-4bb0ce65.pth").touch()
    hub.require_reachable("legacy_seresnet18")


def test_what_the_hub_has_is_fetched_once_and_put_in(small_hub):
    check_weights(CONFIG)
    assert sum(command == "GET" for command, _ in small_hub.asked) == 1
    network = build_network(CONFIG, [0.1] * 4, [0.1] * 4)
    torch.manual_seed(0)
    load_pretrained(network, CONFIG)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    torch.testing.assert_close(drawn, torch.rand(3), rtol=0, atol=0)
    assert sum(command == "GET" for command, _ in small_hub.asked) == 1
    published = small_hub.model.state_dict()
    for name, weight in network.backbone.state_dict().items():
        torch.testing.assert_close(weight, published[name], rtol=0, atol=0)


def test_cached_weights_need_no_hub(small_hub):
    check_weights(CONFIG)
    small_hub.shutdown()
    small_hub.server_close()
    check_weights(CONFIG)


def test_a_hub_without_the_weights_is_not_unreachable(small_hub):
    with pytest.raises(UserError, match="^weights: those of timm for 'test_vit' cannot be loaded: (?!.*cannot be reached)"):
        check_weights(TrialConfig(backbone="test_vit", small_size=64, weights="timm"))
