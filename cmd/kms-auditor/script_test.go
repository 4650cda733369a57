package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
)

// commands are what the scripts can do besides testscript's own commands.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"seen": seen,
	"hold": hold,
	// exits CODE PROGRAM ARGS… runs a program that must end with just that code.
	"exits": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) < 2)
		want, err := strconv.Atoi(args[0])
		ts.Check(err)
		got := 0
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok {
				ts.Fatalf("running %s: %v", args[1], err)
			}
			got = exit.ExitCode()
		}
		if got != want {
			ts.Fatalf("exit code %d, not %d", got, want)
		}
	},
	// api denies: it refuses the device that the contract allows.
	// api silent: it gives no claim on the device.
	// api down: it answers 401 to everything.
	// api hostile: the first KMS of its list has an id that no terminal should see.
	// api mean: it gives one app id, however many are asked for.
	"api": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		api := ts.Value("world").(*world).api
		claim := func(c *bool) {
			api.Update("base", func(chain *fakeapi.Chain) { chain.Contracts[0].Devices[0].Allowed = c })
		}
		switch args[0] {
		case "denies":
			claim(new(bool))
		case "silent":
			claim(nil)
		case "down":
			api.Fail(fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.Any, Status: http.StatusUnauthorized})
		case "hostile":
			api.UpdateKMS(func(all *[]fakeapi.KMS) { (*all)[0].ID = "\x1b[31m\u202ekc \U000e0001" })
		case "mean":
			ids := json.RawMessage(`[{"app_id": "ab", "nonce": 7}]`)
			api.Fail(fakeapi.Fault{Name: fakeapi.Replaced, Endpoint: fakeapi.NextAppIDs, Path: "app_ids", Value: ids})
		default:
			refuse(ts, true)
		}
	},
	// reserved N: the API has reserved that many app ids.
	"reserved": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		if n := ts.Value("world").(*world).api.Reserved(); strconv.Itoa(n) != args[0] {
			ts.Fatalf("%d app ids are reserved, not %s", n, args[0])
		}
	},
	// provider down: it answers 401 to everything. provider hangs: it never answers.
	"provider": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		faults := map[string]rpcfault.Fault{"down": rpcfault.Status(http.StatusUnauthorized, ""), "hangs": rpcfault.Hang}
		fault, ok := faults[args[0]]
		refuse(ts, !ok)
		ts.Value("world").(*world).proxy.Set(fault)
	},
	// terminate waits until the one background program calls the provider, sends it SIGTERM, and gives it five seconds.
	"terminate": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 0)
		w := ts.Value("world").(*world)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ts.Check(w.wait(ctx))
		w.terminated = ts.BackgroundCmds()[0]
		ts.Check(w.terminated.Process.Signal(syscall.SIGTERM))
		late := time.AfterFunc(5*time.Second, func() { w.terminated.Process.Kill() })
		ts.Defer(func() { late.Stop() })
	},
	// ended CODE: after wait, tells how the terminated program ended.
	"ended": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		if state := ts.Value("world").(*world).terminated.ProcessState; strconv.Itoa(state.ExitCode()) != args[0] {
			ts.Fatalf("it ended with %s, not %s", state, args[0])
		}
	},
}

func refuse(ts *testscript.TestScript, wrong bool) {
	if wrong {
		ts.Fatalf("the command is not used as its comment says")
	}
}
