//! A Chromium on the laptop of a node that opens pages, clicks and reads. WebDriver controls it.

use crate::helpers::laptop::Laptop;
use crate::helpers::node::Node;
use crate::helpers::wait::wait;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SCREENSHOTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/screenshots");
const PATIENCE: Duration = Duration::from_secs(30);

/// WebDriver's codes of keys that have no character.
pub mod key {
    pub const TAB: &str = "\u{E004}";
}

/// The browser's setup, by default a desktop without a proxy.
#[derive(Clone, Copy)]
pub struct Setup {
    pub laptop: Laptop,
    /// The port of a SOCKS server on the laptop that every request uses, those to loopback too.
    pub socks: Option<u16>,
    /// Width and height of the page in CSS pixels.
    pub size: (u32, u32),
    pub dark: bool,
    /// A touch screen of `size` with two device pixels for each CSS pixel.
    pub phone: bool,
    /// Accepts every certificate. Otherwise Chromium shows a warning for one that it does not trust.
    pub any_certificate: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { laptop: Laptop::Ssh, socks: None, size: (1280, 800), dark: false, phone: false, any_certificate: false }
    }
}

impl Setup {
    pub fn socks(port: u16) -> Self {
        Self { socks: Some(port), ..Self::default() }
    }

    pub fn vpn() -> Self {
        Self { laptop: Laptop::Vpn, ..Self::default() }
    }

    pub fn on_a_phone(self) -> Self {
        Self { phone: true, size: (360, 740), ..self }
    }
}

/// A headless Chromium with its own profile, and its chromedriver. Both end when it is dropped.
pub struct Browser<'a> {
    node: &'a Node,
    driver: Child,
    /// The URL of the WebDriver session on the laptop.
    session: String,
    dir: tempfile::TempDir,
}

impl<'a> Browser<'a> {
    #[track_caller]
    pub fn start(node: &'a Node, setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // In its own process namespace: the kernel ends all its processes when unshare ends.
        let command = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "--", "chromedriver", "--port=0"];
        let mut driver = node.laptop(setup.laptop, &command);
        let log = dir.path().join("chromedriver.log");
        driver.env("TMPDIR", dir.path()).stdout(fs::File::create(&log).unwrap()).stderr(Stdio::null());
        let mut browser = Self { node, driver: driver.spawn().unwrap(), session: String::new(), dir };
        let server = wait("chromedriver to say its port", || {
            let log = fs::read_to_string(&log).unwrap();
            let (_, rest) = log.split_once("successfully on port ")?;
            Some(format!("http://127.0.0.1:{}", rest.split_once('.')?.0))
        });

        fs::create_dir(browser.downloads()).unwrap();
        let (width, height) = setup.size;
        let mut args = vec![
            "--headless=new".to_string(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            // Do not ask for updates, models or field trials: the laptop has no network for that.
            "--disable-component-update".into(),
            "--disable-features=OptimizationHints,MediaRouter,Translate,NetworkTimeServiceQuerying".into(),
            "--lang=en".into(),
            format!("--user-data-dir={}", browser.dir.path().join("profile").display()),
            format!("--window-size={width},{height}"),
        ];
        if let Some(port) = setup.socks {
            args.push(format!("--proxy-server=socks5://127.0.0.1:{port}"));
            args.push("--proxy-bypass-list=<-loopback>".into());
        }
        let mut options = json!({
            "args": args,
            "prefs": { "download.default_directory": browser.downloads(), "download.prompt_for_download": false },
        });
        if setup.phone {
            let metrics = json!({ "width": width, "height": height, "pixelRatio": 2.0, "touch": true, "mobile": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": setup.any_certificate,
            "timeouts": { "pageLoad": 60_000, "script": 30_000 },
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": options,
        } } });
        let begun = browser.ask("POST", &format!("{server}/session"), Some(&wanted)).unwrap();
        browser.session = format!("{server}/session/{}", begun["sessionId"].as_str().unwrap());
        if !setup.phone {
            // A headless window has borders, too, so set the size of the page.
            let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            browser.cdp("Emulation.setDeviceMetricsOverride", &metrics);
        }
        let scheme = if setup.dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.cdp("Emulation.setEmulatedMedia", &features);
        browser
    }

    /// Sends a WebDriver command. Returns its value, or its error as `code: message`.
    fn ask(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Value, String> {
        // chromedriver listens on the laptop's loopback only.
        let mut curl = self.node.laptop(Laptop::Ssh, &["curl", "-sS", "--max-time", "100", "-X", method, url]);
        if body.is_some() {
            curl.args(["-H", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = curl.stdin.take().unwrap();
        if let Some(body) = body {
            stdin.write_all(body.to_string().as_bytes()).unwrap();
        }
        drop(stdin);
        let output = curl.wait_with_output().unwrap();
        assert!(output.status.success(), "{method} {url}: {}", String::from_utf8_lossy(&output.stderr));
        let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(code) => Err(format!("{code}: {}", value["message"].as_str().unwrap_or_default())),
            None => Ok(value),
        }
    }

    fn try_get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", &format!("{}/{path}", self.session), None)
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", &format!("{}/{path}", self.session), Some(body))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap()
    }

    // --- Pages ---

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.try_open(url).unwrap();
    }

    /// Opens a page. Returns Chromium's error, such as `net::ERR_CONNECTION_REFUSED`, if nothing answers.
    pub fn try_open(&self, url: &str) -> Result<(), String> {
        self.try_post("url", &json!({ "url": url })).map(drop)
    }

    pub fn url(&self) -> String {
        text(&self.get("url"))
    }

    /// The document as HTML, with the changes by scripts.
    pub fn source(&self) -> String {
        text(&self.get("source"))
    }

    /// The visible text of the page. A page that is just replaced by another has none.
    pub fn text(&self) -> String {
        let script = json!({ "script": "return document.body ? document.body.innerText : ''", "args": [] });
        self.try_post("execute/sync", &script).map_or_else(|_| String::new(), |found| text(&found))
    }

    pub fn status(&self) -> (u64, String) {
        let answer = self.script(
            "return [performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0, document.contentType]",
        );
        (answer[0].as_u64().unwrap(), text(&answer[1]))
    }

    /// Runs the body of a function in the page. Returns its value.
    #[track_caller]
    pub fn script(&self, body: &str) -> Value {
        self.post("execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Sends a command of the Chrome DevTools protocol.
    #[track_caller]
    pub fn cdp(&self, command: &str, params: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    // --- Elements ---

    /// Waits for an element. Returns its visible text.
    #[track_caller]
    pub fn wait_for(&self, css: &str) -> String {
        self.with_element("css selector", css, |element| {
            self.try_get(&format!("element/{element}/text")).map(|found| text(&found))
        })
    }

    pub fn count(&self, css: &str) -> usize {
        self.post("elements", &json!({ "using": "css selector", "value": css })).as_array().unwrap().len()
    }

    #[track_caller]
    pub fn wait_for_text(&self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text().contains(wanted) {
            assert!(Instant::now() < deadline, "“{wanted}” is not on {}:\n{}", self.url(), self.text());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for an element and clicks it.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.click_on("css selector", css);
    }

    /// Waits for a link with exactly this text and clicks it.
    #[track_caller]
    pub fn click_link(&self, text: &str) {
        self.click_on("link text", text);
    }

    #[track_caller]
    fn click_on(&self, using: &str, value: &str) {
        self.with_element(using, value, |element| {
            self.try_post(&format!("element/{element}/click"), &json!({})).map(drop)
        });
    }

    /// Waits for an element, and does something with it, until that succeeds: while a page loads or draws a table, its elements
    /// vanish again.
    #[track_caller]
    fn with_element<T>(&self, using: &str, value: &str, act: impl Fn(&str) -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.try_post("element", &json!({ "using": using, "value": value }));
            let id = found.map(|found| text(found.as_object().unwrap().values().next().unwrap()));
            match id.and_then(|id| act(&id)) {
                Ok(result) => return result,
                Err(e) => assert!(Instant::now() < deadline, "{value} of {}: {e}\n{}", self.url(), self.text()),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    // --- Keyboard ---

    /// Presses and releases one key after the other, see [`key`].
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|c| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": c.to_string() })))
            .collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    /// The text or label of the focused element, else its name, or `body` if none is focused.
    pub fn focused(&self) -> String {
        text(&self.script(
            "const e = document.activeElement ?? document.body;
             if (e === document.body) return 'body';
             return (e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText || e.value || e.localName).trim();",
        ))
    }

    /// The elements that Tab focuses one after the other, from the top of the page to its end.
    #[track_caller]
    pub fn tab_walk(&self) -> Vec<String> {
        // Mark each element, because two elements can have the same text.
        self.script("document.activeElement?.blur(); window.scrollTo(0, 0); delete window.walked");
        let mut walked = Vec::new();
        loop {
            self.press(key::TAB);
            let again = self.script(
                "const e = document.activeElement ?? document.body;
                 const walked = (window.walked ??= new Set());
                 return e === document.body || walked.size === walked.add(e).size;",
            );
            // After the last element the focus leaves the page.
            if again == true {
                return walked;
            }
            walked.push(self.focused());
            assert!(walked.len() < 500, "Tab comes to no end on {}", self.url());
        }
    }

    // --- Pictures and files ---

    /// Saves the visible part of the page as a PNG file. Returns its path.
    #[track_caller]
    pub fn screenshot(&self, name: &str) -> PathBuf {
        self.picture(name, false)
    }

    /// Saves the whole page as a PNG file. Returns its path.
    #[track_caller]
    pub fn whole_page(&self, name: &str) -> PathBuf {
        self.picture(name, true)
    }

    #[track_caller]
    fn picture(&self, name: &str, whole: bool) -> PathBuf {
        let png = self.cdp("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": whole }));
        let path = Path::new(SCREENSHOTS).join(format!("{name}.png"));
        fs::create_dir_all(SCREENSHOTS).unwrap();
        fs::write(&path, base64(png["data"].as_str().unwrap())).unwrap();
        path
    }

    pub fn downloads(&self) -> PathBuf {
        self.dir.path().join("downloads")
    }

    /// Waits until Chromium has saved a file of that name. Returns its content.
    #[track_caller]
    pub fn downloaded(&self, name: &str) -> Vec<u8> {
        let path = self.downloads().join(name);
        // Chromium reserves the name with an empty file, and renames the complete download to it.
        wait(&format!("the download of {name}"), || fs::read(&path).ok().filter(|content| !content.is_empty()))
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.session.is_empty() {
            // Save a picture of the page at which the test failed.
            let url = self.try_get("url").map_or_else(|e| e, |url| text(&url));
            let name = format!("failed-{}-{}.png", self.node.name(), self.driver.id());
            let png = Path::new(SCREENSHOTS).join(name);
            if let Ok(data) = self.try_get("screenshot") {
                let _ = fs::create_dir_all(SCREENSHOTS).and_then(|()| fs::write(&png, base64(&text(&data))));
            }
            eprintln!("--- the browser was at {url}, see {}", png.display());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Decodes Base64.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes() {
        let Some(value) = DIGITS.iter().position(|d| *d == digit) else { break };
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
