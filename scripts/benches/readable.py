"""Measures in Chromium how long a page takes until people can read it.

    readable.py URL CONDITION TIMES    CONDITION is an expression of JavaScript, true of a page that is readable

It prints the seconds of each time, from the address to the condition. A page that loads itself again is waited for. Chromium begins
each time with an empty cache. chromedriver has to be on the path.
"""
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE = 900
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-component-update", "--window-size=1280,800"]


def ask(method, url, body=None):
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
        return json.load(answer)["value"]


def readable(session, url, condition):
    ask("POST", f"{session}/url", {"url": "about:blank"})
    ask("POST", f"{session}/goog/cdp/execute", {"cmd": "Network.clearBrowserCache", "params": {}})
    begun = time.perf_counter()
    ask("POST", f"{session}/url", {"url": url})
    while True:
        # Between two pages there is no document, and a page that is at work answers late.
        with contextlib.suppress(OSError):
            if ask("POST", f"{session}/execute/sync", {"script": f"return location.href !== 'about:blank' && Boolean({condition})", "args": []}):
                return time.perf_counter() - begun
        if time.perf_counter() - begun > PATIENCE:
            sys.exit(f"{url} is not readable after {PATIENCE} s")
        time.sleep(0.01)


def main(url, condition, times):
    with tempfile.TemporaryDirectory() as directory:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            said = next(line for line in driver.stdout if "successfully on port " in line)
            server = f"http://127.0.0.1:{said.split('successfully on port ')[1].split('.')[0]}"
            options = {"args": [*ARGUMENTS, f"--user-data-dir={directory}"]}
            wanted = {"pageLoadStrategy": "none", "timeouts": {"script": 1000 * PATIENCE}, "goog:chromeOptions": options}
            session = f"{server}/session/{ask('POST', f'{server}/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
            try:
                print(*(readable(session, url, condition) for _ in range(int(times))))
            finally:
                ask("DELETE", session)
        finally:
            driver.kill()
            driver.wait()


main(*sys.argv[1:])
