package kmsapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func TestContractsOfOneAnswer(t *testing.T) {
	for _, tt := range []struct {
		n   int
		err string
	}{{1000, ""}, {1001, "contracts: 1001 rows, more than 1000"}} {
		rows := make([]string, tt.n)
		for i := range rows {
			rows[i] = fmt.Sprintf(`{"contract_address":"0x%040x","chain_id":1,"chain_name":"x","devices":[],"os_images":[]}`, i)
		}
		d, err := kmsapi.Decode(fmt.Appendf(nil, `{"chain_name":"x","chain_id":1,"contracts":[%s]}`, strings.Join(rows, ",")))
		if tt.err == "" && (err != nil || len(d.Contracts) != tt.n) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%d contracts: %v, want %q", tt.n, err, tt.err)
		}
	}
}
