package state_test

import (
	"cmp"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kms-auditor/kms-auditor/internal/state"
)

func TestNothingIsKnownAtFirst(t *testing.T) {
	for _, path := range []string{"", file(t)} {
		s := open(t, path)
		if diff := differ(read(open(t, "")), read(s)); diff != "" {
			t.Error(diff)
		}
		if len(s.LastEvents(kms)) > 0 {
			t.Error("there is a last event")
		}
		if err := s.Reset(kms); err != nil {
			t.Error(err)
		}
	}
}

func TestAppend(t *testing.T) {
	at := func(block uint64, index uint) state.Event {
		return state.Event{Block: block, BlockHash: blockHash(block), Index: index, List: "device"}
	}
	forked, unnamed, long := at(200, 3), at(200, 3), at(200, 3)
	forked.BlockHash = blockHash(1)
	unnamed.List, long.List = "", strings.Repeat("x", 65)
	for _, tt := range []struct {
		name     string
		from, to uint64
		events   []state.Event
		want     string // in the error; empty: none
	}{
		{"the next block is taken", 200, 200, nil, ""},
		{"several blocks are taken", 200, 300, []state.Event{at(200, 3), at(200, 4), at(201, 0), at(300, 1)}, ""},
		{"a gap is refused", 201, 300, nil, "the next block to append is 200"},
		{"an overlap is refused", 199, 300, nil, "the next block to append is 200"},
		{"a range that ends before it begins is refused", 200, 199, nil, "the next block to append is 200"},
		{"the last number is no block", 200, math.MaxUint64, nil, "the next block to append is 200"},
		{"an event before the range is refused", 200, 300, []state.Event{at(199, 0)}, "an event of block 199"},
		{"an event after the range is refused", 200, 300, []state.Event{at(301, 0)}, "an event of block 301"},
		{"events out of order are refused", 200, 300, []state.Event{at(201, 0), at(200, 0)}, "log 0 of block 200 comes after log 0 of block 201"},
		{"the same log twice is refused", 200, 300, []state.Event{at(201, 7), at(201, 7)}, "log 7 of block 201 comes after"},
		{"a block with two hashes is refused", 200, 300, []state.Event{at(200, 2), forked}, "block 200 has two hashes"},
		{"an event of the last block's rival is refused", 200, 200, []state.Event{forked}, "block 200 has two hashes"},
		{"an event without a list is refused", 200, 300, []state.Event{unnamed}, "has 0 bytes"},
		{"a list's name that is too long is refused", 200, 300, []state.Event{long}, "has 65 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t)
			s := open(t, path)
			scan(t, s, kms, 199)
			before := read(s)
			err := s.Append(kms, tt.from, tt.to, blockHash(tt.to), tt.events)
			want := before
			if tt.want == "" {
				want.Progress[kms] = state.Progress{From: first, Next: tt.to + 1, Hash: blockHash(tt.to)}
				want.Events[kms] = append(want.Events[kms], tt.events...)
				want.Known[kms] = s.Known(kms)
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %q in it", err, tt.want)
			}
			if diff := differ(want, read(s)); diff != "" {
				t.Errorf("in memory: %s", diff)
			}
			s.Close()
			if diff := differ(want, read(open(t, path))); diff != "" {
				t.Errorf("on disk: %s", diff)
			}
		})
	}
}

func TestRewind(t *testing.T) {
	for _, tt := range []struct {
		name string
		to   uint64
		hash common.Hash
		next uint64 // zero: no progress
		want string // in the error
	}{
		{"what is above is dropped", 150, blockHash(150), 151, ""},
		{"a block without events may have another hash", 152, blockHash(1), 153, ""},
		{"a block with events may not", 150, blockHash(1), 200, "its events are of hash"},
		{"to the last block, nothing is dropped", 199, blockHash(199), 200, ""},
		{"above the last block is refused", 200, blockHash(200), 200, "it was not read"},
		{"below the first block, all is dropped", first - 1, blockHash(1), 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, file(t))
			scan(t, s, kms, 199)
			scan(t, s, other, 199)
			err := s.Rewind(kms, tt.to, tt.hash)
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %q in it", err, tt.want)
			}
			p, ok := s.Progress(kms)
			if p.Next != tt.next || ok != (tt.next > 0) || ok && err == nil && p.Hash != tt.hash {
				t.Errorf("the progress is %v, want it to go on at %d", p, tt.next)
			}
			var kept []state.Event
			if tt.next > 0 {
				kept = eventsOf(first, tt.next-1)
			}
			if diff := gocmp.Diff(kept, s.Events(kms)); diff != "" {
				t.Error(diff)
			}
			if got := s.Events(other); len(got) != len(eventsOf(first, 199)) {
				t.Errorf("the other chain keeps %d events", len(got))
			}
		})
	}
}

func TestAnnotate(t *testing.T) {
	path := file(t)
	s := open(t, path)
	scan(t, s, kms, 199)
	e := eventsOf(101, 101)[0]
	e.Actor = other.Contract
	if err := s.Annotate(kms, e); err != nil {
		t.Fatal(err)
	}
	late := e
	late.Actor, late.Time = common.Address{}, time.Unix(1_700_000_000, 999).In(time.FixedZone("", 3600))
	if err := s.Annotate(kms, late); err != nil {
		t.Fatal(err)
	}
	e.Time = time.Unix(1_700_000_000, 0).UTC()
	late.BlockHash = blockHash(1)
	if err := s.Annotate(kms, late); err == nil {
		t.Error("an event of another block was annotated")
	}
	s.Close()
	if got := open(t, path).Events(kms)[0]; got != e {
		t.Errorf("got %+v, want %+v", got, e)
	}
}

// TestStateIsItsModel does anything in any order, to a state on disk, to one in memory, and to a plain list.
func TestStateIsItsModel(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		f, err := os.CreateTemp(dir, "")
		if err != nil {
			rt.Fatal(err)
		}
		f.Close()
		disk, memory := open(t, f.Name()), open(t, "")
		next := map[state.Target]uint64{}
		model := map[state.Target][]state.Event{}
		both := func(do func(*state.State) error) {
			if err := cmp.Or(do(disk), do(memory)); err != nil {
				rt.Fatal(err)
			}
		}
		targets := rapid.SampledFrom([]state.Target{kms, other})
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				of, n := targets.Draw(rt, "target"), rapid.Uint64Range(0, 20).Draw(rt, "blocks")
				from := max(next[of], first)
				both(func(s *state.State) error {
					return s.Append(of, from, from+n, blockHash(from+n), eventsOf(from, from+n))
				})
				next[of] = from + n + 1
				model[of] = append(model[of], eventsOf(from, from+n)...)
			},
			"rewind": func(rt *rapid.T) {
				of := targets.Draw(rt, "target")
				if next[of] == 0 {
					rt.Skip()
				}
				to := rapid.Uint64Range(first-1, next[of]-1).Draw(rt, "to")
				both(func(s *state.State) error { return s.Rewind(of, to, blockHash(to)) })
				model[of] = slices.DeleteFunc(slices.Clone(model[of]), func(e state.Event) bool { return e.Block > to })
				if next[of] = to + 1; to < first {
					next[of] = 0
				}
			},
			"reset": func(rt *rapid.T) {
				of := targets.Draw(rt, "target")
				both(func(s *state.State) error { return s.Reset(of) })
				model[of], next[of] = nil, 0
			},
			"annotate": func(rt *rapid.T) {
				of := targets.Draw(rt, "target")
				if len(model[of]) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(model[of])-1).Draw(rt, "event")
				e := model[of][i]
				e.Actor, e.Time = common.Address{1}, time.Unix(1, 0).UTC()
				both(func(s *state.State) error { return s.Annotate(of, e) })
				model[of] = slices.Clone(model[of])
				model[of][i] = e
			},
			"reopen": func(*rapid.T) {
				disk.Close()
				disk = open(t, f.Name())
			},
			"": func(rt *rapid.T) {
				if diff := differ(read(memory), read(disk)); diff != "" {
					rt.Fatal(diff)
				}
				for of, events := range model {
					if !slices.Equal(events, disk.Events(of)) {
						rt.Fatal(gocmp.Diff(events, disk.Events(of)))
					}
					p, _ := disk.Progress(of)
					if p.Next != next[of] {
						rt.Fatalf("%s goes on at %d, want %d", of, p.Next, next[of])
					}
					replay(rt, disk, of, events)
				}
			},
		})
		disk.Close()
	})
}

// replay compares Last and Known with the events in order.
func replay(t *rapid.T, s *state.State, of state.Target, events []state.Event) {
	known := map[string]map[common.Hash]state.Event{}
	for _, e := range events {
		if known[e.List] == nil {
			known[e.List] = map[common.Hash]state.Event{}
		}
		known[e.List][e.Key] = e
	}
	got := s.Known(of)
	if len(got) != len(known) {
		t.Fatalf("%d lists are known, want %d", len(got), len(known))
	}
	for list, keys := range known {
		if len(got[list]) != len(keys) || !slices.IsSortedFunc(got[list], common.Hash.Cmp) {
			t.Fatalf("of %s, %d keys are known, want %d in order", list, len(got[list]), len(keys))
		}
		for _, k := range got[list] {
			if e := s.LastEvents(of)[state.Item{List: list, Key: k}]; e == nil || *e != keys[k] {
				t.Fatalf("the last event is %+v, want %+v", e, keys[k])
			}
		}
	}
}

func TestThoseWhoRegisteredAppsAreKnownInTheirOrder(t *testing.T) {
	s := open(t, "")
	var events []state.Event
	for n, actor := range []common.Address{{9}, {}, {1}, {9}, {5}} {
		events = append(events, state.Event{Block: first, BlockHash: blockHash(first), Index: uint(n), List: "app", Key: key(uint64(n % 2)), Added: true, Actor: actor})
	}
	must(t, s.Append(kms, first, first, blockHash(first), events))
	want := []common.Hash{common.BytesToHash(common.Address{9}.Bytes()), common.BytesToHash(common.Address{1}.Bytes()), common.BytesToHash(common.Address{5}.Bytes())}
	if diff := gocmp.Diff(want, s.Known(kms)[state.Callers]); diff != "" {
		t.Error(diff)
	}
}
