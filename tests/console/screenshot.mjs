// Writes docs/console.png: the market, as finance sees it in the console at the address given. Started by tests/console/run.sh --screenshot.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.CONSOLE_MODULES}/`);
const { chromium } = require("playwright-core");
const [address, token] = process.argv.slice(2);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const context = await browser.newContext({ viewport: { width: 1200, height: 820 }, colorScheme: "light", javaScriptEnabled: false });
const page = await context.newPage();
await page.goto(`${address}/market`);
await page.fill("#token", token);
await page.press("#token", "Enter");
await page.waitForSelector("nav[aria-label=Pages]");
// Where the demo buys most.
await page.goto(`${address}/market?region=eu-south-2`);
await page.screenshot({ path: "docs/console.png" });
await browser.close();
