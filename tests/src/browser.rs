//! A real headless Chromium, driven over W3C WebDriver.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::installation::{Checkout, Running, free_port};

/// A browser window.
pub struct Browser {
    /// The WebDriver client.
    pub client: Client,
    axe: String,
    _driver: Running,
}

impl Browser {
    /// Starts chromedriver and a window of `width` x `height` pixels, in dark colours if wished.
    ///
    /// # Errors
    /// Chromium is missing: run `deploy/setup --test`.
    pub async fn start(folder: &Path, width: u32, height: u32, dark: bool) -> anyhow::Result<Self> {
        let checkout = Checkout::find()?;
        let axe_path = checkout.cache().join("axe.min.js");
        let axe = std::fs::read_to_string(&axe_path).with_context(|| {
            format!("{} is missing; run deploy/setup --test", axe_path.display())
        })?;
        let port = free_port()?;
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let mut driver = Running::start(command, "chromedriver", &folder.join("chromedriver.log"))
            .context("chromedriver is missing; run deploy/setup --test")?;
        driver.wait_until_listening(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let profile = folder.join(format!("profile-{port}"));
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--force-prefers-reduced-motion".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--window-size={width},{height}"),
        ];
        if dark {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let capabilities = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
        });
        let Value::Object(capabilities) = capabilities else {
            bail!("capabilities are an object")
        };
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .context("opening a browser window")?;
        Ok(Self {
            client,
            axe,
            _driver: driver,
        })
    }

    /// Puts a security key of Chromium's own into the browser: with a PIN that is always right, as WebDriver's WebAuthn extension says.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn put_security_key_in(&self) -> anyhow::Result<()> {
        self.client
            .issue_cmd(VirtualAuthenticator)
            .await
            .map(drop)
            .context("adding a virtual authenticator")
    }

    /// Waits up to 30 s for an element.
    ///
    /// # Errors
    /// It does not come.
    pub async fn wait(&self, css: &str) -> anyhow::Result<fantoccini::elements::Element> {
        let found = self
            .client
            .wait()
            .at_most(Duration::from_secs(30))
            .for_element(Locator::Css(css))
            .await;
        match found {
            Ok(element) => Ok(element),
            Err(error) => {
                let text = self.text().await.unwrap_or_default();
                bail!("no {css} on the page: {error}\n{text}")
            }
        }
    }

    /// Fills a field.
    ///
    /// # Errors
    /// No such field.
    pub async fn fill(&self, css: &str, text: &str) -> anyhow::Result<()> {
        Ok(self.wait(css).await?.send_keys(text).await?)
    }

    /// Clicks an element.
    ///
    /// # Errors
    /// No such element.
    pub async fn click(&self, css: &str) -> anyhow::Result<()> {
        Ok(self.wait(css).await?.click().await?)
    }

    /// The page's visible text.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn text(&self) -> anyhow::Result<String> {
        Ok(self.client.find(Locator::Css("body")).await?.text().await?)
    }

    /// The page's text as it was sent.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn source(&self) -> anyhow::Result<String> {
        Ok(self.client.source().await?)
    }

    /// Saves a screenshot.
    ///
    /// # Errors
    /// Browser or disk failed.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let png = self
            .client
            .screenshot()
            .await
            .context("taking a screenshot")?;
        std::fs::write(path, png).with_context(|| format!("writing {}", path.display()))
    }

    /// Shows pages in dark or light colours from now on.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn colours(&self, dark: bool) -> anyhow::Result<()> {
        self.client
            .issue_cmd(Colours { dark })
            .await
            .map(drop)
            .context("choosing colours")
    }

    /// Makes the window this wide, and as high as the page needs.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn width(&self, width: u32) -> anyhow::Result<()> {
        self.client.set_window_size(width, 900).await?;
        let script = "return Math.max(900, document.documentElement.scrollHeight + 160)";
        let height = self.client.execute(script, vec![]).await?;
        let height = height
            .as_u64()
            .and_then(|height| u32::try_from(height).ok());
        let height = height.context("the page has a height")?;
        Ok(self
            .client
            .set_window_size(width, height.min(6_000))
            .await?)
    }

    /// What does not fit the window: the page itself, or a navigation that needs more than one line.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn overflows(&self) -> anyhow::Result<Vec<String>> {
        let script = "const bad = [];
            const root = document.documentElement;
            if (root.scrollWidth > root.clientWidth) bad.push(`the page is ${root.scrollWidth} wide in ${root.clientWidth}`);
            const bar = document.querySelector('header.bar');
            const lines = new Set([...document.querySelectorAll('nav a')].map(link => Math.round(link.getBoundingClientRect().top)));
            if (root.clientWidth >= 1200 && (lines.size > 1 || bar.getBoundingClientRect().height > 90)) bad.push(`the navigation has ${lines.size} lines`);
            return bad;";
        let found = self.client.execute(script, vec![]).await?;
        serde_json::from_value(found).context("what does not fit")
    }

    /// Runs axe-core with the WCAG 2.2 AA rules; returns one line for each violation.
    ///
    /// # Errors
    /// The browser failed.
    pub async fn accessibility_violations(&self) -> anyhow::Result<Vec<String>> {
        self.client
            .execute(&self.axe, vec![])
            .await
            .context("loading axe-core")?;
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
               .then(result => done(result.violations.map(v => v.id + ': ' + v.help + ' — ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | '))))
               .catch(error => done(['axe failed: ' + error]));";
        let found = self
            .client
            .execute_async(script, vec![])
            .await
            .context("running axe-core")?;
        serde_json::from_value(found).context("axe-core's answer")
    }
}

/// Chromium's own command to emulate a preference for colours.
#[derive(Debug)]
struct Colours {
    dark: bool,
}

impl WebDriverCompatibleCommand for Colours {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let value = if self.dark { "dark" } else { "light" };
        let body = json!({
            "cmd": "Emulation.setEmulatedMedia",
            "params": { "features": [{ "name": "prefers-color-scheme", "value": value }] },
        });
        (Method::POST, Some(body.to_string()))
    }
}

/// `Add Virtual Authenticator` of W3C Web Authentication, level 2, 11.3.
#[derive(Debug)]
struct VirtualAuthenticator;

impl WebDriverCompatibleCommand for VirtualAuthenticator {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/webauthn/authenticator"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({
            "protocol": "ctap2",
            "transport": "usb",
            "hasResidentKey": false,
            "hasUserVerification": true,
            "isUserConsenting": true,
            "isUserVerified": true,
        });
        (Method::POST, Some(body.to_string()))
    }
}
