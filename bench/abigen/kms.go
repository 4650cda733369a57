// Code generated - DO NOT EDIT.
// This file is a generated binding and any manual changes will be lost.

package main

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"time"

	ethereum "github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/accounts/abi/bind"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
)

// Reference imports to suppress errors if they are not otherwise used.
var (
	_ = errors.New
	_ = big.NewInt
	_ = strings.NewReader
	_ = ethereum.NotFound
	_ = bind.Bind
	_ = common.Big1
	_ = types.BloomLookup
	_ = event.NewSubscription
	_ = abi.ConvertType
	_ = time.Tick
	_ = context.Background
)

// KMSMetaData contains all meta data concerning the KMS contract.
var KMSMetaData = &bind.MetaData{
	ABI: "[{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"id\",\"type\":\"bytes32\"}],\"name\":\"allowedOsImages\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"},{\"inputs\":[{\"internalType\":\"bytes32\",\"name\":\"id\",\"type\":\"bytes32\"}],\"name\":\"kmsAllowedDeviceIds\",\"outputs\":[{\"internalType\":\"bool\",\"name\":\"\",\"type\":\"bool\"}],\"stateMutability\":\"view\",\"type\":\"function\"}]",
}

// KMSABI is the input ABI used to generate the binding from.
// Deprecated: Use KMSMetaData.ABI instead.
var KMSABI = KMSMetaData.ABI

// KMS is an auto generated Go binding around an Ethereum contract.
type KMS struct {
	KMSCaller     // Read-only binding to the contract
	KMSTransactor // Write-only binding to the contract
	KMSFilterer   // Log filterer for contract events
}

// KMSCaller is an auto generated read-only Go binding around an Ethereum contract.
type KMSCaller struct {
	contract *bind.BoundContract // Generic contract wrapper for the low level calls
}

// KMSTransactor is an auto generated write-only Go binding around an Ethereum contract.
type KMSTransactor struct {
	contract *bind.BoundContract // Generic contract wrapper for the low level calls
}

// KMSFilterer is an auto generated log filtering Go binding around an Ethereum contract events.
type KMSFilterer struct {
	contract *bind.BoundContract // Generic contract wrapper for the low level calls
}

// KMSSession is an auto generated Go binding around an Ethereum contract,
// with pre-set call and transact options.
type KMSSession struct {
	Contract     *KMS              // Generic contract binding to set the session for
	CallOpts     bind.CallOpts     // Call options to use throughout this session
	TransactOpts bind.TransactOpts // Transaction auth options to use throughout this session
}

// KMSCallerSession is an auto generated read-only Go binding around an Ethereum contract,
// with pre-set call options.
type KMSCallerSession struct {
	Contract *KMSCaller    // Generic contract caller binding to set the session for
	CallOpts bind.CallOpts // Call options to use throughout this session
}

// KMSTransactorSession is an auto generated write-only Go binding around an Ethereum contract,
// with pre-set transact options.
type KMSTransactorSession struct {
	Contract     *KMSTransactor    // Generic contract transactor binding to set the session for
	TransactOpts bind.TransactOpts // Transaction auth options to use throughout this session
}

// KMSRaw is an auto generated low-level Go binding around an Ethereum contract.
type KMSRaw struct {
	Contract *KMS // Generic contract binding to access the raw methods on
}

// KMSCallerRaw is an auto generated low-level read-only Go binding around an Ethereum contract.
type KMSCallerRaw struct {
	Contract *KMSCaller // Generic read-only contract binding to access the raw methods on
}

// KMSTransactorRaw is an auto generated low-level write-only Go binding around an Ethereum contract.
type KMSTransactorRaw struct {
	Contract *KMSTransactor // Generic write-only contract binding to access the raw methods on
}

// NewKMS creates a new instance of KMS, bound to a specific deployed contract.
func NewKMS(address common.Address, backend bind.ContractBackend) (*KMS, error) {
	contract, err := bindKMS(address, backend, backend, backend)
	if err != nil {
		return nil, err
	}
	return &KMS{KMSCaller: KMSCaller{contract: contract}, KMSTransactor: KMSTransactor{contract: contract}, KMSFilterer: KMSFilterer{contract: contract}}, nil
}

// NewKMSCaller creates a new read-only instance of KMS, bound to a specific deployed contract.
func NewKMSCaller(address common.Address, caller bind.ContractCaller) (*KMSCaller, error) {
	contract, err := bindKMS(address, caller, nil, nil)
	if err != nil {
		return nil, err
	}
	return &KMSCaller{contract: contract}, nil
}

// NewKMSTransactor creates a new write-only instance of KMS, bound to a specific deployed contract.
func NewKMSTransactor(address common.Address, transactor bind.ContractTransactor) (*KMSTransactor, error) {
	contract, err := bindKMS(address, nil, transactor, nil)
	if err != nil {
		return nil, err
	}
	return &KMSTransactor{contract: contract}, nil
}

// NewKMSFilterer creates a new log filterer instance of KMS, bound to a specific deployed contract.
func NewKMSFilterer(address common.Address, filterer bind.ContractFilterer) (*KMSFilterer, error) {
	contract, err := bindKMS(address, nil, nil, filterer)
	if err != nil {
		return nil, err
	}
	return &KMSFilterer{contract: contract}, nil
}

// bindKMS binds a generic wrapper to an already deployed contract.
func bindKMS(address common.Address, caller bind.ContractCaller, transactor bind.ContractTransactor, filterer bind.ContractFilterer) (*bind.BoundContract, error) {
	parsed, err := KMSMetaData.GetAbi()
	if err != nil {
		return nil, err
	}
	return bind.NewBoundContract(address, *parsed, caller, transactor, filterer), nil
}

// Call invokes the (constant) contract method with params as input values and
// sets the output to result. The result type might be a single field for simple
// returns, a slice of interfaces for anonymous returns and a struct for named
// returns.
func (_KMS *KMSRaw) Call(opts *bind.CallOpts, result *[]interface{}, method string, params ...interface{}) error {
	return _KMS.Contract.KMSCaller.contract.Call(opts, result, method, params...)
}

// Transfer initiates a plain transaction to move funds to the contract, calling
// its default method if one is available.
func (_KMS *KMSRaw) Transfer(opts *bind.TransactOpts) (*types.Transaction, error) {
	return _KMS.Contract.KMSTransactor.contract.Transfer(opts)
}

// Transact invokes the (paid) contract method with params as input values.
func (_KMS *KMSRaw) Transact(opts *bind.TransactOpts, method string, params ...interface{}) (*types.Transaction, error) {
	return _KMS.Contract.KMSTransactor.contract.Transact(opts, method, params...)
}

// Call invokes the (constant) contract method with params as input values and
// sets the output to result. The result type might be a single field for simple
// returns, a slice of interfaces for anonymous returns and a struct for named
// returns.
func (_KMS *KMSCallerRaw) Call(opts *bind.CallOpts, result *[]interface{}, method string, params ...interface{}) error {
	return _KMS.Contract.contract.Call(opts, result, method, params...)
}

// Transfer initiates a plain transaction to move funds to the contract, calling
// its default method if one is available.
func (_KMS *KMSTransactorRaw) Transfer(opts *bind.TransactOpts) (*types.Transaction, error) {
	return _KMS.Contract.contract.Transfer(opts)
}

// Transact invokes the (paid) contract method with params as input values.
func (_KMS *KMSTransactorRaw) Transact(opts *bind.TransactOpts, method string, params ...interface{}) (*types.Transaction, error) {
	return _KMS.Contract.contract.Transact(opts, method, params...)
}

// AllowedOsImages is a free data retrieval call binding the contract method 0x9a4e1d18.
//
// Solidity: function allowedOsImages(bytes32 id) view returns(bool)
func (_KMS *KMSCaller) AllowedOsImages(opts *bind.CallOpts, id [32]byte) (bool, error) {
	var out []interface{}
	err := _KMS.contract.Call(opts, &out, "allowedOsImages", id)

	if err != nil {
		return *new(bool), err
	}

	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)

	return out0, err

}

// AllowedOsImages is a free data retrieval call binding the contract method 0x9a4e1d18.
//
// Solidity: function allowedOsImages(bytes32 id) view returns(bool)
func (_KMS *KMSSession) AllowedOsImages(id [32]byte) (bool, error) {
	return _KMS.Contract.AllowedOsImages(&_KMS.CallOpts, id)
}

// AllowedOsImages is a free data retrieval call binding the contract method 0x9a4e1d18.
//
// Solidity: function allowedOsImages(bytes32 id) view returns(bool)
func (_KMS *KMSCallerSession) AllowedOsImages(id [32]byte) (bool, error) {
	return _KMS.Contract.AllowedOsImages(&_KMS.CallOpts, id)
}

// KmsAllowedDeviceIds is a free data retrieval call binding the contract method 0x13eb9770.
//
// Solidity: function kmsAllowedDeviceIds(bytes32 id) view returns(bool)
func (_KMS *KMSCaller) KmsAllowedDeviceIds(opts *bind.CallOpts, id [32]byte) (bool, error) {
	var out []interface{}
	err := _KMS.contract.Call(opts, &out, "kmsAllowedDeviceIds", id)

	if err != nil {
		return *new(bool), err
	}

	out0 := *abi.ConvertType(out[0], new(bool)).(*bool)

	return out0, err

}

// KmsAllowedDeviceIds is a free data retrieval call binding the contract method 0x13eb9770.
//
// Solidity: function kmsAllowedDeviceIds(bytes32 id) view returns(bool)
func (_KMS *KMSSession) KmsAllowedDeviceIds(id [32]byte) (bool, error) {
	return _KMS.Contract.KmsAllowedDeviceIds(&_KMS.CallOpts, id)
}

// KmsAllowedDeviceIds is a free data retrieval call binding the contract method 0x13eb9770.
//
// Solidity: function kmsAllowedDeviceIds(bytes32 id) view returns(bool)
func (_KMS *KMSCallerSession) KmsAllowedDeviceIds(id [32]byte) (bool, error) {
	return _KMS.Contract.KmsAllowedDeviceIds(&_KMS.CallOpts, id)
}
