"use strict";
// Keeps the page current: ages by the server's clock, a warning once the next audit is overdue, and the newest report.
(() => {
	const $ = (id) => document.getElementById(id);
	const here = location.origin + location.pathname; // without a password in the address
	const span = (ms) => {
		const s = Math.max(0, Math.floor(ms / 1000));
		if (s < 60) return s + " s";
		if (s < 3600) return Math.floor(s / 60) + " min";
		return s < 172800 ? Math.floor(s / 3600) + " h" : Math.floor(s / 86400) + " days";
	};
	const icon = () => document.querySelector("link[rel=icon]");
	const skewOf = (status) => Date.parse(status.dataset.now) - Date.now();
	let skew = skewOf($("status")), ticks = 0;

	function tick() {
		const status = $("status"), now = Date.now() + skew;
		// The banner's ages each second, the others each half minute: there may be thousands.
		for (const t of (ticks++ % 30 ? status : document).querySelectorAll("time:not([data-day])")) {
			const left = Date.parse(t.dateTime) - now;
			const text = !("until" in t.dataset) ? span(-left) + " ago" : left > 0 ? "in " + span(left) : "due now";
			if (t.textContent !== text) t.textContent = text;
		}
		if (now > Date.parse(status.dataset.overdue) && !status.classList.contains("stale")) {
			status.classList.add("stale");
			document.title = "out of date · kms-auditor";
			icon().href = icon().dataset.stale;
		}
	}

	async function load() {
		const answer = await fetch(here, { cache: "no-store" });
		if (!answer.ok) throw answer.status;
		const page = new DOMParser().parseFromString(await answer.text(), "text/html");
		const fresh = ["status", "report"].map((id) => page.getElementById(id));
		for (const d of fresh[1].querySelectorAll("details[id]")) d.open = $(d.id)?.open ?? d.open;
		const focus = document.activeElement.closest("details[id]")?.id;
		skew = skewOf(fresh[0]);
		ticks = 0;
		fresh.forEach((el) => $(el.id).replaceWith(document.adoptNode(el)));
		icon().replaceWith(document.adoptNode(page.querySelector("link[rel=icon]")));
		document.title = page.title;
		if (focus) $(focus)?.querySelector("summary").focus({ preventScroll: true });
	}

	async function refresh() {
		const left = Date.parse($("status").dataset.overdue) - Date.now() - skew;
		if (!getSelection().isCollapsed && left > 10000) return; // keep a selection that is about to be copied
		try {
			const head = await fetch(here, { method: "HEAD", cache: "no-store" });
			if (!head.ok) throw head.status;
			if (head.headers.get("ETag") !== $("status").dataset.tag) await load();
			$("lost").hidden = true;
		} catch {
			$("lost").hidden = false;
		}
		tick();
	}

	tick();
	setInterval(tick, 1000);
	setInterval(refresh, 5000);
	document.addEventListener("visibilitychange", refresh);
})();
