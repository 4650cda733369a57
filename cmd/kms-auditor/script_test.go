package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// commands are what the scripts can do besides testscript's own commands.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"seen": seen,
	"hold": hold,

	"beacon": beaconCommand,
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
	// api empty: it lists no contract.
	// api down: it answers 401 to everything. api up: it lists all there is again, and claims as before.
	// api hostile: the first KMS of its list has an id that no terminal should see.
	// api malformed: it lists a device with an id that no shell should get.
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
		case "empty":
			api.Fail(fakeapi.Fault{Name: fakeapi.Replaced, Path: "contracts", Value: json.RawMessage("[]")})
		case "down":
			api.Fail(fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.Any, Status: http.StatusUnauthorized})
		case "up":
			api.ClearFault()
		case "hostile":
			api.UpdateKMS(func(all *[]fakeapi.KMS) { (*all)[0].ID = "\x1b[31m\u202ekc \U000e0001" })
		case "malformed":
			api.Update("base", func(chain *fakeapi.Chain) {
				devices := &chain.Contracts[0].Devices
				*devices = append(*devices, fakeapi.Device{ID: "$(evil)"})
			})
		case "mean":
			ids := json.RawMessage(`[{"app_id": "ab", "nonce": 7}]`)
			api.Fail(fakeapi.Fault{Name: fakeapi.Replaced, Endpoint: fakeapi.NextAppIDs, Path: "app_ids", Value: ids})
		default:
			refuse(ts, true)
		}
	},
	// asked N: the API got that many requests.
	"asked": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		if n := ts.Value("world").(*world).api.Requests(); strconv.Itoa(n) != args[0] {
			ts.Fatalf("the API got %d requests, not %s", n, args[0])
		}
	},
	// reserved N: the API has reserved that many app ids.
	"reserved": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		if n := ts.Value("world").(*world).api.Reserved(); strconv.Itoa(n) != args[0] {
			ts.Fatalf("%d app ids are reserved, not %s", n, args[0])
		}
	},
	// reseal FROM TO OLD NEW writes evidence to another file, with every OLD replaced, and a checksum that is right.
	"reseal": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 4)
		body, seal, _ := strings.Cut(ts.ReadFile(args[0]), "\n")
		forged := strings.ReplaceAll(body, args[2], args[3])
		sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
		if forged == body || !strings.Contains(seal, sum(body)) {
			ts.Fatalf("%s has no %s, or no seal", args[0], args[2])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(forged+"\n"+strings.Replace(seal, sum(body), sum(forged), 1)), 0o600))
	},
	// provider down: it answers 401 to everything. provider hangs: it never answers. provider up: as before.
	"provider": func(ts *testscript.TestScript, neg bool, args []string) {
		refuse(ts, neg || len(args) != 1)
		faults := map[string]rpcfault.Fault{"down": rpcfault.Status(http.StatusUnauthorized, ""), "hangs": rpcfault.Hang, "up": {}}
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
