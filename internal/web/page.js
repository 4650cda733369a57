"use strict";
// Keeps the page right: ages by the server's clock, red once the next audit is overdue, and the newest report in place.
(() => {
	const $ = (id) => document.getElementById(id);
	const here = location.origin + location.pathname; // without a password that the address may hold
	const span = (ms) => {
		const s = Math.max(0, Math.floor(ms / 1000));
		if (s < 60) return s + " s";
		if (s < 3600) return Math.floor(s / 60) + " min";
		return s < 172800 ? Math.floor(s / 3600) + " h" : Math.floor(s / 86400) + " days";
	};
	const skewOf = (status) => Date.parse(status.dataset.now) - Date.now();
	let skew = skewOf($("status"));

	function tick() {
		const status = $("status"), now = Date.now() + skew;
		for (const t of status.querySelectorAll("time[data-since]")) t.textContent = span(now - Date.parse(t.dateTime)) + " ago";
		for (const t of status.querySelectorAll("time[data-until]")) {
			const left = Date.parse(t.dateTime) - now;
			t.textContent = left > 0 ? "in " + span(left) : "due now";
		}
		if (now > Date.parse(status.dataset.overdue)) {
			status.classList.add("stale");
			document.title = "out of date · kms-auditor";
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
		fresh.forEach((el) => $(el.id).replaceWith(document.adoptNode(el)));
		document.title = page.title;
		if (focus) $(focus)?.querySelector("summary").focus({ preventScroll: true });
	}

	async function refresh() {
		const left = Date.parse($("status").dataset.overdue) - Date.now() - skew;
		if (!getSelection().isCollapsed && left > 10000) return; // somebody is about to copy, and there is time
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

	setInterval(tick, 1000);
	setInterval(refresh, 5000);
	document.addEventListener("visibilitychange", refresh);
})();
