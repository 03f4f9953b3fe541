"""Canaries: one test for each private hook of a framework on which the lab relies.

A test that fails here says what breaks in the lab with the installed release, and where to mend it. The ranges that
pyproject.toml declares are those of the releases with which these tests passed.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from gradio import http_server, queueing, route_utils, routes
from gradio.exceptions import Error
from gradio.state_holder import SessionState, StateHolder
from packaging.requirements import Requirement
from packaging.version import Version
from starlette.middleware import Middleware
from torch import nn

from neftune_core.ui.server import first_view, launch
from neftune_core.ui.server.calls import EvictedSessions
from neftune_core.ui.server.connections import Sessions

ROOT = Path(__file__).parents[2]


def small_page() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as page:
        kept, text = gr.State("x"), gr.Textbox(elem_id="text")
        gr.Button().click(lambda value, _: value, [text, kept], text, api_name="echo")
    return page


def source(function: Any) -> str:
    return inspect.getsource(function)


NEWER = {"torch": (2, 15), "transformers": (5, 24)}  # tried beside the tested set: assets/docs/installation.md
FRAMEWORKS = ("gradio", "torch", "transformers", "datasets", "sacrebleu")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_declared_range_ends_after_the_release_that_was_tried(name: str) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (range_,) = [found.specifier for found in map(Requirement, declared) if found.name == name]
    here = Version(version(name)).release
    assert ".".join(map(str, here)) in range_, f"{name} {here} is installed: run this file, then widen its range"
    major, minor = max(here[:2], NEWER.get(name, here[:2]))
    assert f"{major}.{minor}.0" in range_, f"{name} {major}.{minor} was tried, and its range ends before it"
    if here[:2] >= _tested(name):
        assert f"{major}.{minor + 1}" not in range_, f"the next release of {name} has not been tried"


def _tested(name: str) -> tuple[int, ...]:
    """Return major and minor number of a package in the tested set."""
    (found,) = re.findall(rf"^{name}==([\d.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    return Version(found).release[:2]


def test_every_place_to_mend_is_there() -> None:
    named = set(re.findall(r"\b[a-z]\w*(?:/\w+)+\.py\b", Path(__file__).read_text(encoding="utf-8")))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / "neftune_core" / name).is_file()]


# ---------------------------------------------------------------- Gradio


def test_gradio_makes_its_application_by_app_create_app() -> None:
    why = "CORS answers foreign origins before the gate: mend ui/server/launch.py, `outermost_middleware`."
    assert "App.create_app(" in source(gr.Blocks.launch), why
    with launch.outermost_middleware(Middleware(SimpleNamespace)):  # type: ignore[arg-type]
        app = routes.App.create_app(small_page())
    assert app.user_middleware[0].cls is SimpleNamespace, why
    assert any(found.cls is route_utils.CustomCORSMiddleware for found in app.user_middleware[1:]), why


def test_gradio_calls_every_handler_through_process_api_of_the_page() -> None:
    why = "Values of calls are no longer checked, nor errors made sentences: mend ui/server/calls.py, `guard`."
    assert "get_blocks().process_api(" in source(route_utils.call_process_api), why
    names = set(inspect.signature(gr.Blocks.process_api).parameters)
    assert {"block_fn", "inputs", "request", "iterator", "session_hash", "event_data"} <= names, why


def test_gradio_describes_functions_as_the_gate_reads_them() -> None:
    why = "Calls cannot be checked: mend ui/server/gate.py, `_check_call`, and ui/server/calls.py, `guard`."
    fn = next(iter(small_page().fns.values()))
    assert fn.api_name == "echo", why
    assert not fn.cancels, why
    assert [block.stateful for block in fn.inputs] == [False, True], why
    assert fn.page == "", why


def test_gradio_lets_the_oldest_session_go_by_popitem() -> None:
    why = (
        "An evicted session is not told to reload: mend ui/server/connections.py, `Sessions`, and ui/server/launch.py."
    )
    holder, evicted = StateHolder(), EvictedSessions()
    holder.set_blocks(small_page_with_capacity(1))
    assert type(holder.session_data) is OrderedDict, why
    holder.session_data = Sessions(evicted, 1)
    for session in ("first", "second"):
        holder[session]
        holder.update(session)
    assert "first" in evicted, why
    assert "second" not in evicted, why


def small_page_with_capacity(capacity: int) -> gr.Blocks:
    page = small_page()
    page.state_session_capacity = capacity
    return page


def test_gradio_answers_the_first_of_a_list_to_which_calls_are_appended() -> None:
    why = "A visitor with many calls is answered before all others again: mend ui/server/connections.py."
    assert type(queueing.EventQueue("x", 1).queue) is list, why
    assert "event_queue.queue.append(event)" in source(queueing.Queue.push), why
    assert "event_queue.queue[0]" in source(queueing.Queue), why
    assert "self.event_queue_per_concurrency_id[concurrency_id] = EventQueue(" in source(queueing.Queue), why


def test_gradio_makes_its_page_from_few_headers() -> None:
    why = "A visitor gets the page of another address: mend ui/server/first_view.py, `ADDRESS_HEADERS`."
    read = source(route_utils.get_root_url) + source(route_utils.get_request_origin)
    named = re.findall(r'(?:get_first_header_value\(request, |headers.get\()"([\w-]+)"', read)
    assert {name.encode() for name in named} <= set(first_view.ADDRESS_HEADERS), why
    assert named, why


def test_gradio_keeps_values_of_a_session_for_links_alone() -> None:
    why = "A session takes megabytes, or breaks: mend ui/server/connections.py, `Sessions.put_in` and `DiscardedState`."
    read = set(re.findall(r"(?<![._])blocks\.\w+", source(SessionState.__init__)))
    assert read == {"blocks.default_config", "blocks.blocks"}, why
    assert not set(re.findall(r"config_values\.(\w+)", source(SessionState))) - {"items"}, why
    assert source(routes).count(".components") == 1, why
    assert "state_holder.blocks" not in source(routes) + source(route_utils) + source(queueing), why


def test_gradio_keeps_answers_of_a_session_until_they_are_read() -> None:
    why = "Answers that nobody reads fill the memory: mend ui/server/connections.py, `UnreadAnswers`."
    queue = small_page()._queue
    assert type(queue.pending_event_ids_session) is dict, why
    assert isinstance(queue.pending_messages_per_session, OrderedDict), why
    assert inspect.iscoroutinefunction(queue.clean_events), why
    assert "session_hash" in inspect.signature(queue.clean_events).parameters, why
    assert "self.pending_event_ids_session[body.session_hash].add(event._id)" in source(queueing.Queue.push), why
    assert "if not event.alive:" in source(queueing.Queue.send_message), why
    assert "queue.pending_event_ids_session.items()" in source(routes.App.create_app), why


def test_gradio_keeps_the_progress_of_uploads_in_two_tables_and_bounds_headers_by_a_default() -> None:
    why = "Memory grows with every upload, or long file names hold up the server: mend ui/server/connections.py, "
    why += "`limit_uploads`."
    assert {"_statuses", "_signals"} <= set(vars(routes.file_upload_statuses)), why
    assert "max_header_size" in (route_utils.GradioMultiPartParser.__init__.__kwdefaults__ or {}), why
    assert "max_header_size" not in source(routes.App.create_app) + source(route_utils.upload_fn), why


def test_uvicorn_finds_its_parser_in_a_table_and_h11_bounds_the_head_of_a_request() -> None:
    why = "The head of a request may take all memory: mend ui/server/connections.py, `limit_header_size`."
    from h11._connection import DEFAULT_MAX_INCOMPLETE_EVENT_SIZE
    from uvicorn.config import Config

    assert "HTTP_PROTOCOLS.get(self.http, self.http)" in source(Config), why
    assert Config("x").http == "auto", why
    assert "http=" not in source(http_server.start_server), why
    assert DEFAULT_MAX_INCOMPLETE_EVENT_SIZE == 16 * 1024, why


def test_uvicorn_says_which_connections_have_a_request() -> None:
    why = "Idle connections are not closed: mend ui/server/connections.py, `close_idle`."
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    for protocol in (H11Protocol, HttpToolsProtocol):
        made = source(protocol)
        assert "self.cycle = RequestResponseCycle(" in made, why
        assert "self.connections.add(self)" in made, why
        assert "self.client" in made, why
    assert "self.server = server" in source(gr.Blocks.launch), why


def test_gradio_reads_a_components_signature_of_its_class() -> None:
    why = "Opening a page takes a tenth of a second more: mend ui/server/launch.py, `cache_signatures`."
    from gradio.blocks import Block

    assert "inspect.signature(cls.__init__)" in source(Block.get_config), why


def test_gradio_keeps_the_data_of_an_event_in_data() -> None:
    why = "A call with odd event data is a fault of the lab: mend ui/server/calls.py, `guard`."
    assert gr.EventData(None, {"id": 1})._data == {"id": 1}, why


def test_gradio_prints_no_traceback_of_an_error_that_forbids_it() -> None:
    why = "Errors of visitors fill the terminal with tracebacks: mend ui/server/calls.py, `guard`."
    assert Error("x", print_exception=False).print_exception is False, why


def test_gradio_keeps_uploads_where_its_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    why = "Uploads lie in a folder that all users share: mend ui/server/uploads.py, `keep_uploads_at_home`."
    from gradio.utils import get_upload_folder

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert Path(get_upload_folder()) == tmp_path, why


def test_gradio_sums_up_its_calls_as_seldom_as_its_variables_say() -> None:
    why = "Every call sums up ten thousand earlier ones: mend the variables at the top of ui/server/launch.py."
    page = small_page()
    page.queue()
    assert (page._queue.ANALYTICS_MAX_EVENTS, page._queue.ANAYLTICS_CACHE_FREQUENCY) == (100, 1000), why


def test_gradio_serves_a_page_with_the_marks_that_the_first_view_looks_for() -> None:
    why = "The page lacks its first view and language: mend ui/server/first_view.py, `PageAdditions.to`."
    from neftune_core.ui.server.first_view import BODY_ENDS, FRAMEWORKS_LANGUAGE, FRAMEWORKS_SHEET, HEAD_BEGINS

    page = (Path(gr.__file__).parent / "templates" / "frontend" / "index.html").read_bytes()
    assert FRAMEWORKS_LANGUAGE in page, why
    assert page.count(FRAMEWORKS_SHEET) == 1, why
    assert HEAD_BEGINS.search(page), why
    assert BODY_ENDS in page, why


def test_gradio_says_that_no_port_is_free_as_the_start_reads_it() -> None:
    why = "A start without a free port is reported as a fault of the lab: mend ui/server/serve.py, `_launch`."
    assert "Cannot find empty port" in source(http_server.start_server), why


# ---------------------------------------------------------------- transformers


def tiny_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=20, num_key_value_heads=2, **sizes)).eval()


def test_transformers_marks_a_model_on_which_it_has_put_hooks() -> None:
    why = "Hidden states of private trees are not collected: mend models/architecture/module_trees.py, `HOOKED_MARK`."
    from neftune_core.models.architecture.module_trees import HOOKED_MARK, private_tree

    model = tiny_llama()
    model(torch.tensor([[1, 2]]), output_hidden_states=True)
    assert any(HOOKED_MARK in vars(module) for module in model.modules()), why
    tree: Any = private_tree(model)
    assert len(tree(torch.tensor([[1, 2]]), output_hidden_states=True).hidden_states) == 2, why


def test_transformers_takes_an_attention_function_by_name() -> None:
    why = "Short rows attend at half the speed, or not at all: mend models/architecture/attention.py."
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    from neftune_core.models.architecture.attention import NAME, install

    assert callable(sdpa_mask), why
    assert [*inspect.signature(sdpa_attention_forward).parameters][:5] == [
        *("module", "query", "key", "value", "attention_mask")
    ], why
    model, ids = tiny_llama(), torch.tensor([[1, 2, 3]])
    assert model.config._attn_implementation == "sdpa", why
    before = model(ids).logits
    install(model)
    assert model.config._attn_implementation == NAME, why
    assert torch.allclose(model(ids).logits, before, atol=1e-5), why  # rounding of a different order of sums


def test_transformers_keeps_a_layers_keys_and_values_in_a_dynamic_layer() -> None:
    why = "Rows read ahead of decoding are lost: mend evaluation/kv_prefill.py."
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.update(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4), 0)
    assert cache.layers[0].keys.shape == cache.layers[0].values.shape == (1, 1, 2, 4), why


def test_transformers_has_the_names_that_the_lab_imports_from_inside() -> None:
    why = (
        "A model with Conv1D, or token text, cannot be read: mend models/architecture/anatomy.py, models/token_text.py."
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.pytorch_utils import Conv1D

    assert len(set(bytes_to_unicode().values())) == 256, why
    assert Conv1D(3, 2).weight.shape == (2, 3), why


# ---------------------------------------------------------------- torch


def test_torch_knows_whether_a_backward_pass_is_under_way() -> None:
    why = "Noise under gradient checkpointing is drawn twice: mend noise/hooks.py, `recomputing`."
    from neftune_core.noise.hooks import recomputing

    seen: list[bool] = []
    value = torch.ones(1, requires_grad=True)
    value.register_hook(lambda _: seen.append(recomputing()))
    assert not recomputing(), why
    (value * 2).sum().backward()
    assert seen == [True], why


def test_torchs_gradient_of_the_softmax_is_the_one_of_autograd() -> None:
    why = (
        "Training on short rows learns from wrong gradients: mend models/architecture/attention.py, the backward pass."
    )
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    seen, back = scores.softmax(-1), torch.randn(3, 5, dtype=torch.float64)
    (expected,) = torch.autograd.grad(seen, scores, back)
    found = torch._softmax_backward_data(back, seen.detach(), -1, seen.dtype)
    assert torch.allclose(found, expected, atol=1e-12), why  # float64 rounding


def test_torch_keeps_a_modules_tensors_and_hooks_in_the_tables_that_are_shared() -> None:
    why = (
        "Private trees copy weights or keep hooks: mend models/architecture/module_trees.py and engine/arm_factory.py."
    )
    module = nn.BatchNorm1d(2)
    module.register_forward_hook(lambda *_: None)
    assert set(module._parameters) == {"weight", "bias"}, why
    assert "running_mean" in module._buffers, why
    filled = [name for name, table in vars(module).items() if "_hooks" in name and table]
    assert "_forward_hooks" in filled, why


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")  # of torch's own modules, as it compiles
def test_torch_keeps_the_module_that_it_compiles_as_orig_mod() -> None:
    why = "Noise finds no embedding in a compiled model: mend noise/sites.py, `unwrapped`."
    module = nn.Linear(1, 1)
    assert torch.compile(module)._modules["_orig_mod"] is module, why


# ---------------------------------------------------------------- datasets and sacrebleu


def test_datasets_streams_rows_without_opening_pictures_and_sounds() -> None:
    why = "Rows of the hub open what is in them: mend data/formats/sandboxed_reader.py, the reader of the hub."
    import datasets

    assert "streaming" in inspect.signature(datasets.load_dataset).parameters, why
    features = datasets.Features({"a": datasets.Value("int64")})
    rows = datasets.IterableDataset.from_generator(lambda: iter([{"a": 1}]), features=features)
    assert list(rows.decode(False)) == [{"a": 1}], why
    assert callable(datasets.disable_progress_bars), why


def test_sacrebleu_gives_the_counts_of_each_answer() -> None:
    why = "BLEU and chrF have no intervals: mend evaluation/overlap.py, `_overlap`."
    from sacrebleu.metrics import BLEU, CHRF

    for metric, columns in ((BLEU(), 10), (CHRF(), 18)):
        counts = metric._extract_corpus_statistics(["a cat sat", "x"], [["a cat sat", "y"]])
        assert [len(row) for row in counts] == [columns, columns], why
        assert "version:" in str(metric.get_signature()), why
