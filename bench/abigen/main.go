// Command abigen holds what the API claims about KMS contracts against the chain, one call of a generated binding an id,
// one after the other, and prints what differs: what one writes first in Go.
// Usage: abigen API_URL NAME=CHAIN_ID=RPC_URL...; exit code 1 where something differs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"
)

//go:generate abigen --abi kms.abi --pkg main --type KMS --out kms.go

type detail struct {
	Contracts []struct {
		Address common.Address `json:"contract_address"`
		Devices []struct {
			ID      string `json:"device_id"`
			Allowed *bool  `json:"on_chain_allowed"`
		} `json:"devices"`
		OSImages []struct {
			Hash    *string `json:"os_image_hash"`
			Allowed *bool   `json:"on_chain_allowed"`
		} `json:"os_images"`
	} `json:"contracts"`
}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	differ := false
	for _, arg := range os.Args[2:] {
		parts := strings.SplitN(arg, "=", 3)
		found, err := audit(ctx, os.Args[1], parts[0], parts[2])
		if err != nil {
			log.Fatalf("%s: %v", parts[0], err)
		}
		for _, line := range found {
			fmt.Println(line)
			differ = true
		}
	}
	if differ {
		os.Exit(1)
	}
}

func audit(ctx context.Context, api, chain, url string) (found []string, err error) {
	claim, err := fetch(ctx, api+"/kms/on-chain/"+chain)
	if err != nil {
		return nil, err
	}
	client, err := ethclient.DialContext(ctx, url)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	head, err := client.HeaderByNumber(ctx, big.NewInt(int64(rpc.FinalizedBlockNumber)))
	if err != nil {
		return nil, err
	}
	opts := &bind.CallOpts{Context: ctx, BlockNumber: head.Number}
	for _, c := range claim.Contracts {
		kms, err := NewKMS(c.Address, client)
		if err != nil {
			return nil, err
		}
		check := func(list, text string, claim bool, getter func(*bind.CallOpts, [32]byte) (bool, error)) error {
			id, err := bytes32(text)
			if err != nil {
				return err
			}
			says, err := getter(opts, id)
			if err == nil && says != claim {
				found = append(found, strings.ToLower(fmt.Sprintf("%s %s %s %#x %t %t", chain, c.Address, list, id, claim, says)))
			}
			return err
		}
		for _, d := range c.Devices {
			if d.Allowed == nil {
				continue
			}
			if err := check("device", d.ID, *d.Allowed, kms.KmsAllowedDeviceIds); err != nil {
				return nil, err
			}
		}
		for _, i := range c.OSImages {
			if i.Allowed == nil || i.Hash == nil {
				continue
			}
			if err := check("os_image", *i.Hash, *i.Allowed, kms.AllowedOsImages); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func fetch(ctx context.Context, url string) (d detail, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return d, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return d, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return d, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return d, json.NewDecoder(resp.Body).Decode(&d)
}

func bytes32(text string) (id [32]byte, err error) {
	b, err := hexutil.Decode("0x" + strings.TrimPrefix(text, "0x"))
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("%q is no bytes32", text)
	}
	copy(id[:], b)
	return id, err
}
