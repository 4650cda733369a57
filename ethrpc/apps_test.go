package ethrpc_test

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
)

// appsElsewhere stores an app's registered flag in the slot that is the sum of its number and the word in slot 0.
var appsElsewhere = "60403614602b57" + registeredApps + "14601d57" + "5f5f5260205ff3" + "5b5f5460043501545f5260205ff3" + "5b6020355f355500"

// TestAppsAreAskedAboutAgain checks that the slots which the apps' getter read are reused only while it would read them again.
func TestAppsAreAskedAboutAgain(t *testing.T) {
	apps := numbered(1000, 300)
	w, at, set, _ := appsWorld(t, appsElsewhere, apps)
	c := prover(t, ethrpc.VerifyRequired, 1, w.URL)
	for _, row := range []struct {
		sentence string
		change   func()
		apps     int64 // that are asked about
		slots    int64 // that are proven, at most
		complete bool
	}{
		{"the first time", func() {}, 300, 400, true},
		{"another app is registered, and not asked about", func() { set(1300, 1) }, 300, 80, false},
		{"it is asked about", func() {}, 301, 10, true},
		{"one more", func() { set(1301, 1) }, 302, 40, true},
		{"an app is no longer registered", func() { set(1004, 0) }, 302, 80, true},
		{"the getter looks elsewhere", func() { set(0, 100) }, 302, 80, false},
		{"it looks where it looked before", func() { set(0, 0) }, 302, 80, true},
	} {
		row.change()
		for i := int64(len(apps)); i < row.apps; i++ {
			apps = append(apps, numbered(i+1000, 1)...)
		}
		n := w.count()
		s, err := look(t.Context(), c, request{queries: []ethrpc.Query{{Contract: at, Apps: apps, Slots: []common.Hash{{}}}}})
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		t.Logf("%s: %d slots are proven, of %d apps", row.sentence, n.slots.Load(), len(apps))
		if s.Storage.Complete != row.complete || !s.Proven {
			t.Errorf("%s: complete is %t, proven %t", row.sentence, s.Storage.Complete, s.Proven)
		}
		if n.slots.Load() > row.slots {
			t.Errorf("%s: %d slots are proven", row.sentence, n.slots.Load())
		}
	}
}
