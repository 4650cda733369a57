package proof_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

type info struct{ K256Pubkey, CaPubkey, Quote, Eventlog []byte }

func TestGettersAnswerAsTheNodeDoes(t *testing.T) {
	device, image, nowhere := ids('d', 1)[0], ids('i', 1)[0], ids('x', 1)[0]
	for _, implementation := range []string{testchain.Plain, testchain.Backdoor, testchain.Moved} {
		p := start(t, testchain.Options{})
		k := p.deploy(t, implementation)
		must(t, k.AllowDevice(t.Context(), device))
		must(t, k.AllowImage(t.Context(), image))
		_, err := k.Send(t.Context(), "setGatewayAppId", "0xgate")
		must(t, err)
		_, err = k.Send(t.Context(), "setKmsInfo", info{K256Pubkey: make([]byte, 33), CaPubkey: []byte("ca")})
		must(t, err)
		_, err = k.Send(t.Context(), "setKmsQuote", bytes.Repeat([]byte("quote"), 800))
		must(t, err)
		_, err = k.Send(t.Context(), "setKmsEventlog", bytes.Repeat([]byte("event"), 800))
		must(t, err)
		p.pin(t)
		for _, row := range []struct {
			name   string
			data   []byte
			rounds int // the proxy, the implementation's slot, the implementation, what the getter reads, the answer
		}{
			{"an allowed device", pack(t, "kmsAllowedDeviceIds", device), 5},
			{"an allowed image", pack(t, "allowedOsImages", image), 5},
			{"an id on neither list", pack(t, "allowedOsImages", nowhere), 5},
			{"the owner", pack(t, "owner"), 5},
			{"no pending owner", pack(t, "pendingOwner"), 5},
			{"no app implementation", pack(t, "appImplementation"), 5},
			{"a short text", pack(t, "gatewayAppId"), 5},
			{"kilobytes of which the lengths come first", pack(t, "kmsInfo"), 6},
			{"a writer reverts for a stranger", pack(t, "addKmsDevice", nowhere), 5},
			{"a function that is not there reverts", []byte{1, 2, 3, 4}, 4},
		} {
			t.Run(implementation+"/"+row.name, func(t *testing.T) {
				w := p.world()
				res, rounds := p.call(t, w, k.Address(), row.data)
				want, reverted := p.ethCall(t, k.Address(), row.data)
				if !bytes.Equal(res.Output, want) || res.Reverted != reverted {
					t.Errorf("got %x, reverted %t; the node says %x, %t", res.Output, res.Reverted, want, reverted)
				}
				if rounds != row.rounds {
					t.Errorf("it took %d rounds, not %d", rounds, row.rounds)
				}
				for _, s := range res.Touched {
					if s.Account != k.Address() {
						t.Errorf("a slot of %s was read: storage is the proxy's", s.Account)
					}
				}
				if again, rounds := p.call(t, w, k.Address(), row.data); rounds != 1 || !cmp.Equal(res, again) {
					t.Errorf("asked again, it took %d rounds and gave %+v", rounds, again)
				}
			})
		}
	}
}

func TestAnUpgradeMovesTheListsAndTheAnswersFollow(t *testing.T) {
	p := start(t, testchain.Options{})
	k := p.deploy(t, testchain.Plain)
	id := ids('d', 1)[0]
	must(t, k.AllowDevice(t.Context(), id))
	getter := pack(t, "kmsAllowedDeviceIds", id)
	no := make([]byte, 32)
	yes := append(make([]byte, 31), 1)
	var places [][]byte
	for _, step := range []struct {
		name   string
		change func() error
		want   []byte
	}{
		{"allowed before", func() error { return nil }, yes},
		{"not allowed after the upgrade", func() error { _, err := k.Upgrade(t.Context(), testchain.Moved); return err }, no},
		{"allowed again at the new place", func() error { return k.AllowDevice(t.Context(), id) }, yes},
	} {
		must(t, step.change())
		p.pin(t)
		res, _ := p.call(t, p.world(), k.Address(), getter)
		if !bytes.Equal(res.Output, step.want) {
			t.Errorf("%s: got %x", step.name, res.Output)
		}
		var keys []byte
		for _, s := range res.Touched {
			keys = append(keys, s.Key[:]...)
		}
		places = append(places, keys)
	}
	if bytes.Equal(places[0], places[1]) || !bytes.Equal(places[1], places[2]) {
		t.Error("the slots touched do not tell that the lists moved once")
	}
}

func TestAnAccountThatIsNotThereAnswersNothing(t *testing.T) {
	p := start(t, testchain.Options{})
	w, nobody := p.world(), testchain.Address("nobody")
	if a, known := w.Account(nobody); a != nil || known {
		t.Errorf("before any proof: %v, %t", a, known)
	}
	res, rounds := p.call(t, w, nobody, []byte{1})
	if len(res.Output) != 0 || res.Reverted || rounds != 2 {
		t.Errorf("got %+v in %d rounds", res, rounds)
	}
	if a, known := w.Account(nobody); a != nil || !known {
		t.Errorf("after the proof: %v, %t", a, known)
	}
}

const (
	other   = "00000000000000000000000000000000000000c1"
	writer  = "00000000000000000000000000000000000000c2"
	funded  = "00000000000000000000000000000000000000c3"
	nobody  = "00000000000000000000000000000000000000c4"
	passing = "00000000000000000000000000000000000000c5"
	logger  = "00000000000000000000000000000000000000c6"
)

// TestOddCode runs code that no compiler would write.
func TestOddCode(t *testing.T) {
	alloc := types.GenesisAlloc{
		common.HexToAddress(other):   {Code: common.FromHex("60016002600301")},
		common.HexToAddress(writer):  {Code: common.FromHex("6001600055")},
		common.HexToAddress(funded):  {Balance: common.Big2},
		common.HexToAddress(passing): {Code: common.FromHex("600160005d")},
		common.HexToAddress(logger):  {Code: common.FromHex("60006000a0")},
	}
	rows := []struct{ name, code, want string }{
		{"a loop without end runs out of gas", "5b600056", "out of gas"},
		{"a write is refused", "6001600055", "write protection"},
		{"a transient write is refused", "600160005d", "write protection"},
		{"a log is refused", "60006000a0", "write protection"},
		{"a creation is refused", "600060006000f0", "write protection"},
		{"a transfer is refused", "6000600060006000600173" + strings.Repeat("11", 20) + "61fffff1", "write protection"},
		{"an invalid instruction", "fe", "invalid opcode"},
		{"the hash of an old block is not proven", "60004060005260206000f3", "hash of block 0"},
		{"the hash of the parent is", "6001430340" + "60005260206000f3", ""},
		{"the blob fee is not in the header", "4a60005260206000f3", "panic"},
		{"chain, block, time and its own balance are known", "4660005243602052426040524760605260806000f3", ""},
		{"writing the same word is refused too", "60005460005500", "write protection"},
		{"an account is given away, and refused", "33ff", "write protection"},
		{"a creation at a known address is refused", "6000600060006000f5", "write protection"},
		{"transient storage is empty", "60015c60005260206000f3", ""},
		{"the code of another is read", "73" + other + "3b60005273" + other + "3f60205260606000600073" + other + "3c60806000f3", ""},
		{"an absent account has no code and no balance", "73" + nobody + "3b60005273" + nobody + "3f60205273" + nobody + "3160405260606000f3", ""},
		{"an account without code has the empty code hash", "73" + funded + "3f60005273" + funded + "3160205260406000f3", ""},
		{"a call of an absent account without value succeeds", "6000600060006000600073" + nobody + "61fffff160005260206000f3", ""},
		{"another that it calls would write", "6000600060006000600073" + writer + "61fffff160005260206000f3", "write protection"},
		{"another that it calls would write, if it were let", "600060006000600073" + writer + "61fffffa60005260206000f3", ""},
		{"another that it calls would write for the while of the call", "6000600060006000600073" + passing + "61fffff160005260206000f3", "write protection"},
		{"another that it calls would log", "6000600060006000600073" + logger + "61fffff160005260206000f3", "write protection"},
		{"a transfer of more than it has is refused", "6000600060006000600573" + strings.Repeat("11", 20) + "61fffff160005260206000f3", "write protection"},
		{"a creation with more than it has is refused", "6000600060056000f05060005260206000f3", "write protection"},
		{"a precompile may be called as if it were to write", "60006000600060006000600261fffff160005260206000f3", ""},
		{"clz is an instruction of today", "60011e60005260206000f3", ""},
		{"a precompile may be called", "60006000600060006002" + "61fffffa" + "60005260206000f3", ""},
		{"a revert shows its reason", "60aa60005260206000fd", ""},
	}
	at := func(i int) common.Address { return common.Address{0: 0xcc, 19: byte(i)} }
	for i, row := range rows {
		alloc[at(i)] = types.Account{Code: common.FromHex(row.code), Balance: common.Big1}
	}
	p := start(t, testchain.Options{Alloc: alloc})
	for range 3 {
		p.Commit()
	}
	p.pin(t)
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := p.world()
			for {
				res, err := w.Call(t.Context(), at(i), nil)
				if err == nil && !res.Missing.Empty() {
					p.supply(t, w, res.Missing)
					continue
				}
				if row.want != "" {
					if err == nil || !strings.Contains(err.Error(), row.want) {
						t.Errorf("got %x, %v, want an error with %q", res.Output, err, row.want)
					}
					return
				}
				must(t, err)
				if want, reverted := p.ethCall(t, at(i), nil); !bytes.Equal(res.Output, want) || res.Reverted != reverted {
					t.Errorf("got %x, %t; the node says %x, %t", res.Output, res.Reverted, want, reverted)
				}
				return
			}
		})
	}
}

// TestACallEndsWithItsContext checks that an interrupted call is an error and does not affect later calls.
func TestACallEndsWithItsContext(t *testing.T) {
	busy := common.Address{0: 0xcc} // it answers with 1 once its gas is nearly gone
	p := start(t, testchain.Options{Alloc: types.GenesisAlloc{busy: {Code: common.FromHex("5b5a62010000105f57" + "60015f5260205ff3"), Balance: common.Big1}}})
	w := p.world()
	p.supply(t, w, proof.Missing{Accounts: []common.Address{busy}})
	answers := func() time.Duration {
		began := time.Now()
		if res, err := w.Call(t.Context(), busy, nil); err != nil || len(res.Output) != 32 || res.Output[31] != 1 {
			t.Fatalf("it answers %x, %v", res.Output, err)
		}
		return time.Since(began)
	}
	whole := answers()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if res, err := w.Call(ctx, busy, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("with an ended context, the call returns %x, %v", res.Output, err)
	}
	answers()
	for range 20 { // a busy machine may stop it late
		ctx, cancel := context.WithTimeout(t.Context(), whole/10)
		began := time.Now()
		res, err := w.Call(ctx, busy, nil)
		took := time.Since(began)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("stopped, it answers %x, %v", res.Output, err)
		}
		if took < whole/2 {
			answers()
			return
		}
	}
	t.Errorf("a call that takes %s is never stopped", whole)
}

func TestCodeThatLooksAtTheBlockIsVolatile(t *testing.T) {
	const answer = "60005260206000f3"
	at := func(i int) common.Address { return common.Address{0: 0xcc, 19: byte(i)} }
	rows := []struct {
		sentence, code string
		volatile       bool
	}{
		{"it asks for the time", "42" + answer, true},
		{"it asks for the chain", "46" + answer, false},
		{"the time's instruction is data", "614242" + answer, false},
		{"it asks for the time right behind data", "600042" + answer, true},
		{"it pushes nothing, and asks for the time", "5f42" + answer, true},
		{"it asks for the time behind as much data as there is", "7f" + strings.Repeat("42", 32) + "42" + answer, true},
		{"it jumps over bytes that no run comes to, to where it asks", "60045600" + "5b42" + answer, true},
		{"bytes that it jumps over seem to push what it jumps to", "60055660ff" + "5b42" + answer, true},
		{"it ends, and then there are other bytes", "6001" + answer + "42434445", false},
		{"it reverts, and then there are other bytes", "60006000fd" + "4242", false},
		{"where it would ask it never comes", "6000600f57" + "6001" + answer + "5b42" + answer, false},
		{"its code ends in the middle of data", "6001" + answer + "7f42", false},
		{"it asks for a balance", "3031" + answer, true},
		{"it asks for its own", "47" + answer, true},
		{"another that it calls asks for the time", "602060006000600073" + common.Bytes2Hex(at(0).Bytes()) + "61fffffa60206000f3", true},
	}
	alloc := types.GenesisAlloc{}
	for i, row := range rows {
		alloc[at(i)] = types.Account{Code: common.FromHex(row.code)}
	}
	p := start(t, testchain.Options{Alloc: alloc})
	p.Commit()
	p.pin(t)
	for i, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			w := p.world()
			for range 2 { // a traced call must not affect the next one
				res, _ := p.call(t, w, at(i), nil)
				want, _ := p.ethCall(t, at(i), nil)
				if res.Volatile != row.volatile || !bytes.Equal(res.Output, want) {
					t.Errorf("volatile %t and output %x, want %t and %x", res.Volatile, res.Output, row.volatile, want)
				}
			}
		})
	}
}
