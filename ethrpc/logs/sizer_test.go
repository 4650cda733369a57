package logs_test

import (
	"strconv"
	"testing"

	"github.com/kms-auditor/kms-auditor/ethrpc/logs"
)

func TestWhatAProviderSuggests(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		from, to   uint64
		want       uint64
	}{
		{"a range in words is taken", "query exceeds max results 20000, retry with the range 100-200", 100, 9999, 101},
		{"a range in hex is taken", "Log response size exceeded. Based on your parameters, this block range should work: [0x64, 0xc8]", 100, 9999, 101},
		{"a range in quotes is taken", `Try with this block range ["0x64", "0xC8"].`, 100, 9999, 101},
		{"a range behind another number is taken", "max 20000, 100-200", 100, 9999, 101},
		{"a single block is taken", "retry with 100 to 100", 100, 9999, 1},
		{"a range that starts elsewhere does not count", "retry with the range 101-200", 100, 9999, 0},
		{"a range that is not smaller is not", "retry with the range 100-9999", 100, 9999, 0},
		{"a range that ends before it starts is not", "retry with the range 100-99", 100, 9999, 0},
		{"a single number is not a range", "query returned more than 10000 results", 0, 9999, 0},
		{"a number beyond 64 bits is not a block", "retry with the range 100-99999999999999999999", 100, 9999, 0},
		{"a hash is not a number", "0x6427f4f5ded88b72d326bd973e581c1689c5080c6444a0cf90fec7d9e4c8b92a-200", 100, 9999, 0},
		{"nothing is nothing", "", 0, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := logs.Suggested(tt.says, tt.from, tt.to); got != tt.want {
				t.Errorf("%q suggests %d blocks, want %d", tt.says, got, tt.want)
			}
		})
	}
}

func FuzzSuggested(f *testing.F) {
	f.Add("retry with the range 100-200", uint64(100), uint64(9999))
	f.Add("this block range should work: [0x0, 0xffffffffffffffff]", uint64(0), ^uint64(0))
	f.Add("1,2,3,4,5-6..7 to 8", uint64(5), uint64(7))
	f.Fuzz(func(t *testing.T, text string, from, to uint64) {
		if n := logs.Suggested(text, from, to); n != 0 && (from > to || n > to-from) {
			t.Errorf("%q suggests %d blocks from %d to %d", text, n, from, to)
		}
	})
}

func TestTheRangeFindsAProvidersLimit(t *testing.T) {
	for _, tt := range []struct{ blocks, limit, refused uint64 }{
		{200_000, 50_000, 0},
		{200_000, 10_000, 0},
		{200_000, 5_000, 10},
		{200_000, 1_000, 30},
		{200_000, 50, 120},
		{5_000, 1, 200},
	} {
		t.Run(strconv.FormatUint(tt.limit, 10)+" blocks at once", func(t *testing.T) {
			all, refused := logs.CountRequests(tt.blocks, tt.limit, 10_000)
			ideal := tt.blocks / min(tt.limit, 10_000)
			if refused > int(tt.refused) || all > int(ideal+ideal/4+40) {
				t.Errorf("%d requests, %d refused; the ideal is %d, and %d refused are fine", all, refused, ideal, tt.refused)
			}
		})
	}
}

func TestASmallFirstRangeDoesNotStaySmall(t *testing.T) {
	if all, refused := logs.CountRequests(200_000, 10_000, 1); all > 300 || refused > 0 {
		t.Errorf("200,000 blocks take %d requests, %d of them refused", all, refused)
	}
}
