// Drives a real Chromium: reads one JSON command per line, runs it and answers with one line.
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
	executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
	args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
let page, scripted, wide, said, outside;

const commands = {
	async open({ url, width = 1180, height = 900, dark = false, script = true }) {
		await page?.context().close();
		const context = await browser.newContext({
			viewport: { width, height }, colorScheme: dark ? "dark" : "light", javaScriptEnabled: script,
			hasTouch: width < 500, isMobile: width < 500,
		});
		page = await context.newPage();
		[scripted, wide] = [script, width];
		said = [];
		outside = [];
		page.on("console", (m) => said.push(`${m.type()}: ${m.text()}`));
		page.on("pageerror", (e) => said.push(`error: ${e.message}`));
		page.on("request", (r) => {
			const to = new URL(r.url());
			if (to.protocol !== "data:" && to.origin !== new URL(url).origin) outside.push(r.url());
		});
		await page.goto(url);
	},
	// await waits for an element.
	await: ({ selector }) => page.locator(selector).first().waitFor({ timeout: 30_000 }),
	async click({ selector }) {
		await page.locator(selector).first().click();
	},
	eval: ({ code }) => page.evaluate(code),
	// look returns what a reader sees, and faults of the page. Axe needs a page that may run scripts.
	async look() {
		if (scripted) await page.evaluate(axe);
		return page.evaluate(async ([scripted, wide]) => ({
			title: document.title,
			status: document.getElementById("status").className,
			text: document.body.innerText,
			overflow: Math.max(0, document.documentElement.scrollWidth - wide),
			axe: !scripted ? [] : (await axe.run()).violations
				.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html).join(" ")}`),
		}), [scripted, wide]).then((seen) => ({ ...seen, said, outside }));
	},
	shot: ({ path }) => page.screenshot({ path }).then(() => null),
};

for await (const line of createInterface({ input: process.stdin })) {
	const { command, ...rest } = JSON.parse(line);
	try {
		console.log(JSON.stringify({ value: (await commands[command](rest)) ?? null }));
	} catch (e) {
		console.log(JSON.stringify({ error: String(e) }));
	}
}
await browser.close();
