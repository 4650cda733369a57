package simtest_test

import (
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
)

// watched has values that a contract reports about its KMS, by their names in a report's control: the allowed measurements, the
// gateway and the apps' code.
type watched map[string]string

const measurements, gateway, appCode = "aggregated_mrs", "gateway_app_id", "app_implementation"

func measurement(n byte) common.Hash { return common.Hash{2, n} }

// watchedOf reads it from the slots of a contract.
func watchedOf(storage map[common.Hash]string, l layout) watched {
	var allowed []string
	for n := range byte(10) {
		if storage[mapped(measurement(n), l.measurements)] != "" {
			allowed = append(allowed, measurement(n).Hex())
		}
	}
	slot := number32(4)
	word := common.HexToHash(storage[slot])
	text := string(word[:word[31]/2%32])
	if word[31]%2 == 1 { // it is long
		n, all := int(word.Big().Int64()/2), []byte(nil)
		for i := int64(0); len(all) < n; i++ {
			part := common.HexToHash(storage[plus(crypto.Keccak256Hash(slot[:]), i)])
			all = append(all, part[:]...)
		}
		text = string(all[:n])
	}
	out := watched{measurements: strings.Join(allowed, " "), gateway: text}
	if app := common.HexToAddress(storage[l.appCode]); l.appCode != (common.Hash{}) && app != (common.Address{}) {
		out[appCode] = app.Hex()
	}
	return out
}

// reportedOf is the part of it in a report or a baseline.
func reportedOf(c audit.Control) watched {
	out := watched{}
	for _, name := range c.Read {
		switch name {
		case measurements:
			out[name] = strings.Join(c.AggregatedMRs, " ")
		case gateway:
			out[name] = c.GatewayAppID
		case appCode:
			out[name] = c.AppImplementation
		}
	}
	return out
}

// judgeWatched compares it with the baseline.
func (w *world) judgeWatched(t *truth, at common.Address) {
	for name, was := range w.mem.watched[at] {
		if name != measurements && was != "" && t.is.watched[name] == "" && w.Verify == "off" { // that it is gone is not proven
			t.blank, t.gone = true, true
			continue
		}
		is, f := t.is.watched[name], finding{Kind: map[string]string{measurements: "measurements_changed", gateway: "gateway_changed", appCode: "app_implementation_changed"}[name]}
		if t.wrong[f] = is != was; !t.wrong[f] {
			delete(t.wrong, f)
			continue
		}
		// The auditor need not know of an added measurement.
		came := func(id string) bool { return !strings.Contains(was, id) }
		t.hidden[f] = name == measurements && slices.ContainsFunc(strings.Fields(is), came)
	}
}

// soundMeasurement checks the entry of a measurement. The API claims nothing about measurements.
func soundMeasurement(e *audit.Entry, truly *truth, complain func(string)) {
	switch is := strings.Contains(truly.is.watched[measurements], e.ID); {
	case e.Claim != audit.ClaimNone:
		complain("somebody claims something of it")
	case e.OnChain != audit.ChainUnknown && is != (e.OnChain == audit.ChainAllowed):
		complain("on chain it is something else")
	case e.OnChain != audit.ChainUnknown && e.Verdict != audit.Unclaimed && e.Reason != audit.ReasonWentBack:
		complain("nobody wants anything of it")
	}
}

// rememberWatched takes over a baseline. New values in it must be true, and old ones must not change.
func (l *law) rememberWatched(at common.Address, c audit.Control) {
	if l.mem.watched[at] == nil {
		l.mem.watched[at] = watched{}
	}
	now := reportedOf(c)
	for name, was := range l.mem.watched[at] {
		if is, still := now[name]; !still || is != was {
			l.fail("the baseline of %s has the %s %q, and had %q", at, name, is, was)
		}
	}
	for name, is := range now {
		if _, known := l.mem.watched[at][name]; known {
			continue
		}
		if truly := l.truthOf(at, l.look).is.watched[name]; is != truly && !l.liar {
			l.fail("the baseline of %s has the %s %q, which is %q", at, name, is, truly)
		}
		l.mem.watched[at][name] = is
	}
}
