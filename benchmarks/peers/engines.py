"""How each engine is started, what it is given and how its steps are read. measure() returns {steps or rates, note}."""
import contextlib
import http.client
import json
import os
import pathlib
import queue
import signal
import subprocess
import tempfile
import threading
import time

import cases
from checkpoints import HERE, PEERS, directory, gguf

LLAMA_MOST = 256  # LLAMA_MAX_SEQ: sequences in flight that llama.cpp can be built for without a change
LLAMA_BATCH = 4096  # tokens, as in a pass of the others
REPEATS = 40  # more than ever fit the time


@contextlib.contextmanager
def process(command, **kwargs):
    """It does not outlive the block, however that ends."""
    p = subprocess.Popen([str(c) for c in command], **kwargs)
    try:
        yield p
    finally:
        p.kill()
        p.wait()


def cpus():
    return sorted(os.sched_getaffinity(0))


class Moegen:
    def __init__(self, model, options):
        self._model, self._binary, self._seconds = directory(model), options.moegen, options.seconds
        self.command = [*options.prefix, self._binary, "run-batch", "-m", self._model, "--skip-tokenizer-init", "--served-model-name", "bench", "--progress", "none",
                        *options.moegen_options.split()]

    def version(self):
        return subprocess.check_output([self._binary, "--version"], text=True).splitlines()[0]

    def start(self):
        pass

    def stop(self):
        pass

    def measure(self, case, seed):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            with open(folder / "in.jsonl", "w", encoding="utf-8") as f:
                for i, (ids, generate) in enumerate(cases.requests(case, seed)):
                    body = {"model": "bench", "prompt": ids, "max_tokens": generate, "min_tokens": generate, "ignore_eos": True, "temperature": 0}
                    f.write(json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": body}) + "\n")
            command = [*self.command, "-i", folder / "in.jsonl", "-o", folder / "out.jsonl", "--metrics", folder / "metrics"]
            with open(folder / "log", "w", encoding="utf-8") as log, process(command, stderr=log) as run:
                if case.kind == "prefill":
                    self._interrupt_after(run, folder / "metrics")
                if run.wait() not in (0, 130):
                    raise RuntimeError((folder / "log").read_text())
            return {"steps": list(self._steps(folder / "metrics"))}

    def _interrupt_after(self, run, metrics):
        """Ends the run when it has computed, not loaded, for the time given."""
        began = None
        while run.poll() is None:
            time.sleep(0.5)
            if began is None and metrics.exists() and metrics.stat().st_size > 0:
                began = time.monotonic()
            if began and time.monotonic() - began > self._seconds:
                run.send_signal(signal.SIGINT)
                return

    @staticmethod
    def _steps(metrics):
        before = 0
        for line in metrics.read_text().splitlines():
            m = json.loads(line)
            if "summary" not in m:
                yield [m["seconds"], m["pass_prefill_tokens"], m["generated_tokens"] - before]
                before = m["generated_tokens"]


class Driven:
    """An engine in a Python process of its own that stays for all cases."""

    def __init__(self, options, venv, driver, environment, settings):
        self._seconds = options.seconds
        self._python = PEERS / venv / "bin" / "python"
        self._log = PEERS / f"{pathlib.Path(driver).stem}.log"
        self.command = [*options.prefix, self._python, HERE / driver, json.dumps(settings)]
        self.environment = environment
        self._process = None

    def packages(self, names):
        code = f"from importlib.metadata import version as v; print(', '.join(n + ' ' + v(n) for n in {names!r}))"
        return subprocess.check_output([self._python, "-c", code], text=True).strip()

    def start(self):
        log = open(self._log, "w", encoding="utf-8")
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                         env={**os.environ, **self.environment})
        self._answer()  # loaded and warm

    def stop(self):
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def measure(self, case, seed):
        seconds = self._seconds * (4 if case.kind == "ragged" else 1)
        print(json.dumps({"case": case.name, "seed": seed, "seconds": seconds}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"it ended: see {self._log}")
        return json.loads(line)


class Vllm(Driven):
    def __init__(self, model, options, zen=False):
        site = PEERS / "venv-vllm"
        n = [str(i) for i in cpus()]
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": str(options.vllm_kv_gib), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
            "OMP_NUM_THREADS": str(len(n)), "KMP_AFFINITY": f"granularity=fine,explicit,proclist=[{','.join(n)}]", "KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0",
            "LD_PRELOAD": f"{PEERS}/tcmalloc/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4:{site}/lib/libiomp5.so",
        }
        settings = {"model": str(directory(model)), "max_num_seqs": 1024, "max_num_batched_tokens": 4096, **json.loads(options.vllm_options)}
        if zen:
            environment["PYTHONPATH"] = str(PEERS / "zentorch")
        super().__init__(options, "venv-vllm", "drive_vllm.py", environment, settings)

    def version(self):
        return self.packages(["vllm-cpu", "torch"])


class Transformers(Driven):
    def __init__(self, model, options):
        settings = {"model": str(directory(model)), "threads": len(cpus()), **json.loads(options.transformers_options)}
        super().__init__(options, "venv-transformers", "drive_transformers.py", {"HF_HUB_OFFLINE": "1"}, settings)

    def version(self):
        return self.packages(["transformers", "torch"])


class Llama:
    """llama-batched-bench for prefill and decode, its server for the ragged job."""

    def __init__(self, model, options, dtype):
        self._seconds, self._slots = options.seconds, options.llama_slots
        threads = str(len(cpus()))
        self.common = ["-m", gguf(model, dtype), "-t", threads, "-tb", threads, "-b", LLAMA_BATCH, "-ub", LLAMA_BATCH, "-no-kvu",
                       *options.llama_options.split()]
        self._prefix = options.prefix
        self.command = [*self._prefix, PEERS / "llama/bin/llama-batched-bench", *self.common]

    def version(self):
        (source,) = PEERS.glob("src/llama_cpp_python-*")
        return f"llama.cpp of {source.name}"

    def start(self):
        pass

    def stop(self):
        pass

    def measure(self, case, seed):
        if case.kind == "ragged":
            return self._ragged(case, seed)
        if case.kind == "prefill":
            n = min(case.sequences, max(1, LLAMA_BATCH // case.prompt))
            rates = self._bench("speed_pp", case.prompt, n, 1)
            return {"rates": rates, "note": f"{n} sequences at a time" if n < case.sequences else ""}
        n = min(case.sequences, LLAMA_MOST)
        steps = min(case.generate, 16)
        # One prompt, copied to all sequences; as long as the mean context of the case, as only some of its tokens are generated.
        rates = self._bench("speed_tg", case.prompt + (case.generate - steps) // 2, n, steps, "-pps")
        note = f"{steps} steps at the mean context" + (f", {n} sequences in flight, the most it can" if n < case.sequences else "")
        return {"rates": rates, "note": note}

    def _bench(self, field, prompt, sequences, generate, *more):
        size = ["-c", sequences * (prompt + generate + 32), "-npp", prompt, "-npl", sequences, "-ntg", ",".join([str(generate)] * REPEATS)]
        command = [*self.command, *size, *more, "--output-format", "jsonl"]
        rates, spent = [], 0.0
        with process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
            for line in run.stdout:
                if line.startswith("{"):
                    m = json.loads(line)
                    rates.append(m[field])
                    spent += m["t"]
                    if spent > self._seconds:
                        break
        if not rates:
            raise RuntimeError(f"no line from {' '.join(map(str, command))}")
        return rates[1:] or rates  # the first one pages the weights in: its own warm-up is 16 tokens

    def _ragged(self, case, seed):
        """Rate between the first wave of answers and the end of the time: no start, no tail."""
        port = 18080
        slots = min(self._slots, case.sequences)
        command = [*self._prefix, PEERS / "llama/bin/llama-server", *self.common, "-c", slots * (cases.longest(case) + 32), "-np", slots, "--port", port, "--no-webui",
                   "--threads-http", slots + 2, "--timeout", 3600, "--cache-ram", 0]
        with open(PEERS / "llama-server.log", "w", encoding="utf-8") as log, process(command, stdout=log, stderr=log) as server:
            wait_until_ready(server, port)
            done = serve(port, slots, cases.requests(case, seed), 4 * self._seconds)
        if not done:
            raise RuntimeError(f"no answer within {4 * self._seconds:.0f} s: more --seconds")
        whole = len(done) == case.sequences
        first = 0 if whole else min(slots, len(done) // 2)
        rate = sum(count for _, count in done[first:]) / (done[-1][0] - (done[first - 1][0] if first else 0))
        return {"rates": [rate], "note": "" if whole else f"{len(done) - first} answers with {slots} in flight, neither start nor tail counted"}


def post(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(text[:300].decode())
    return json.loads(text)


def wait_until_ready(server, port):
    while server.poll() is None:
        try:
            post(port, {"prompt": [1000, 1001], "n_predict": 2, "ignore_eos": True})
            return
        except (OSError, RuntimeError):
            time.sleep(1)
    raise RuntimeError(f"llama-server ended: see {PEERS}/llama-server.log")


def serve(port, slots, requests, seconds):
    """[(seconds since the start, generated tokens)] of the answers that came in time, in order."""
    waiting, done, begin = queue.SimpleQueue(), [], time.monotonic()
    for request in requests:
        waiting.put(request)

    def client():
        try:
            while time.monotonic() - begin < seconds:
                ids, generate = waiting.get_nowait()
                count = post(port, {"prompt": ids, "n_predict": generate, "ignore_eos": True, "temperature": 0, "cache_prompt": False})["tokens_predicted"]
                done.append((time.monotonic() - begin, count))
        except (queue.Empty, OSError, RuntimeError, http.client.HTTPException):
            pass  # nothing left, or the time is up and the server gone

    threads = [threading.Thread(target=client, daemon=True) for _ in range(slots)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(max(0.0, begin + seconds - time.monotonic()))
    return sorted(done)


ENGINES = {
    "moegen": Moegen,
    "vllm": Vllm,
    "vllm-zen": lambda model, options: Vllm(model, options, zen=True),
    "llama-bf16": lambda model, options: Llama(model, options, "bf16"),
    "llama-q8_0": lambda model, options: Llama(model, options, "q8_0"),
    "transformers": Transformers,
}
