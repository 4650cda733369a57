package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// remember lets a state know of n changes, one a block and one a day from 2026-01-01 on: devices, and apps in between.
func remember(t testing.TB, s *state.State, n int) {
	t.Helper()
	at := state.Target{Chain: "base", Contract: common.HexToAddress(contract)}
	var events []state.Event
	for i := range n {
		e := state.Event{Block: uint64(i + 1), List: "device", Key: common.HexToHash(id(i + 1)), Added: true,
			Time: time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)}
		if i%2 == 1 {
			e.List = "app"
		}
		events = append(events, e)
	}
	if err := s.Append(at, 0, uint64(n), common.Hash{}, events); err != nil {
		t.Fatal(err)
	}
}

func TestHistory(t *testing.T) {
	o := options(nil)
	remember(t, o.State, 300)
	o.State.SetChainID("ethereum", 1)
	s := serve(t, o, 1)
	for _, tt := range []struct {
		name, query string
		n, first    int // events, and the block of the first of them
		err         string
	}{
		{"the newest hundred, of audited lists", "", 100, 101, ""},
		{"fewer", "limit=3", 3, 295, ""},
		{"more", "limit=1000", 150, 1, ""},
		{"of one list", "list=app&limit=1", 1, 300, ""},
		{"of two lists", "list=app&list=device&limit=2", 2, 299, ""},
		{"of a chain", "chain=base&limit=1", 1, 299, ""},
		{"of another chain", "chain=ethereum", 0, 0, ""},
		{"of a contract", "contract=" + strings.ToLower(contract) + "&limit=1", 1, 299, ""},
		{"of another contract", "contract=0x000000000000000000000000000000000000dEaD", 0, 0, ""},
		{"since a day", "since=2026-10-20", 4, 293, ""},
		{"since a time", "since=2026-10-20T00:00:01Z", 3, 295, ""},
		{"no chain of that name", "chain=mainnet", 0, 0, `chain "mainnet" is not configured`},
		{"no list of that name", "list=devices", 0, 0, `list "devices" must be one of device, os_image, contract, aggregated_mr, app`},
		{"no address", "contract=0x12", 0, 0, `contract "0x12" is no address`},
		{"no time", "since=yesterday", 0, 0, `since "yesterday" is invalid: use a date (2026-12-31) or an RFC 3339 time`},
		{"none at all", "limit=0", 0, 0, `limit "0" is not a number from 1 to 10000`},
		{"too many", "limit=10001", 0, 0, `limit "10001" is not a number from 1 to 10000`},
		{"a parameter that does not exist", "lists=app", 0, 0, `unknown parameter "lists": use chain, contract, list, since or limit`},
		{"a parameter twice", "limit=1&limit=2", 0, 0, `"limit" is given more than once`},
		{"half an escape", "chain=%", 0, 0, "the query cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := ask(t, client, request(t, "GET", "http://"+s.addrs[0]+"/api/v1/history?"+tt.query))
			if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers: %v", resp.Header)
			}
			var got struct {
				render.History
				Error string `json:"error"`
			}
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if diff := cmp.Diff(tt.err, got.Error); diff != "" || (resp.StatusCode == 400) != (tt.err != "") {
				t.Fatalf("status %d, error %s", resp.StatusCode, diff)
			}
			block := 0
			if len(got.Events) > 0 {
				block = int(got.Events[0].Block)
			}
			if len(got.Events) != tt.n || block != tt.first {
				t.Errorf("%d events from block %d on, want %d from %d", len(got.Events), block, tt.n, tt.first)
			}
		})
	}
	t.Run("the page shows the newest fifty, the latest first", func(t *testing.T) {
		body := shown(t, o)
		if n := strings.Count(body, `<tr class="added">`); n != 50 {
			t.Errorf("%d changes", n)
		}
		if newest, older := strings.Index(body, fmt.Sprintf("block %d<", 299)), strings.Index(body, fmt.Sprintf("block %d<", 297)); newest < 0 || older < newest {
			t.Errorf("the newest stands at %d, the one before at %d", newest, older)
		}
	})
}
