package main_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	main "github.com/kms-auditor/kms-auditor/cmd/kms-auditor"
)

// TestWaitingIsLogged: without a terminal, a line every ten seconds says what each chain waits for, and for how long.
func TestWaitingIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zapcore.InfoLevel)
		var stderr bytes.Buffer
		show, stop := main.StartProgress(&stderr, zap.New(core), 10*time.Second)
		show("base", "reading the API and the chain")
		show("ethereum", "reading the API and the chain")
		time.Sleep(15 * time.Second)
		show("base", "")
		show("ethereum", "reading the newest block")
		time.Sleep(10 * time.Second)
		stop()
		time.Sleep(time.Minute)
		var got []string
		for _, l := range lines.All() {
			var what []string
			for _, w := range l.ContextMap()["for"].([]any) {
				what = append(what, w.(string))
			}
			got = append(got, l.Message+" "+time.Duration(l.ContextMap()["elapsed_seconds"].(float64)*float64(time.Second)).String()+" for "+strings.Join(what, ", "))
		}
		want := "waiting 10s for base: reading the API and the chain, ethereum: reading the API and the chain\nwaiting 20s for ethereum: reading the newest block"
		if strings.Join(got, "\n") != want || stderr.Len() > 0 {
			t.Errorf("logged\n%s\nand printed %q, want\n%s", strings.Join(got, "\n"), &stderr, want)
		}
	})
}
