package testchain_test

import (
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

func TestFundSaysSoWhereTheNodeHoldsNoAccount(t *testing.T) {
	c := ethclient.NewClient(dial(t, start(t, testchain.Options{})))
	err := testchain.Fund(t.Context(), c, testchain.Address("anyone"))
	if err == nil || !strings.Contains(err.Error(), "holds none") {
		t.Errorf("got %v", err)
	}
}
