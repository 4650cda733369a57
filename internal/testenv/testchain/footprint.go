package testchain

import (
	"context"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The names of further contracts.
const (
	Helped   = "KmsHelped"   // its device list is in a library or a registry
	Writing  = "KmsWriting"  // its device getter misbehaves, such as by writing
	Library  = "KmsList"     // argument flip: it returns the opposite
	Registry = "KmsRegistry" // argument: the account that may set it

	beacon       = "KmsBeacon"
	behindBeacon = "KmsBehindBeacon"
	transparent  = "KmsTransparent"
	proxyAdmin   = "KmsProxyAdmin"
	dispatch     = "KmsDispatch"
)

// Shape is a way in which a contract delegates its calls.
type Shape struct {
	Name string
	make func(ctx context.Context, k *KMS, impl common.Address, initialize []byte) (common.Address, func(context.Context, common.Address) error, error)
}

// Shapes has every Shape but that of Deploy.
var Shapes = []Shape{
	{"a beacon", func(ctx context.Context, k *KMS, impl common.Address, initialize []byte) (at common.Address, swap func(context.Context, common.Address) error, err error) {
		b, err := k.Create(ctx, beacon, impl, account(k.key))
		if err == nil {
			at, err = k.Create(ctx, behindBeacon, b, initialize)
		}
		return at, func(ctx context.Context, impl common.Address) error {
			return k.SendTo(ctx, beacon, b, "upgradeTo", impl)
		}, err
	}},
	{"a transparent proxy", func(ctx context.Context, k *KMS, impl common.Address, initialize []byte) (at common.Address, swap func(context.Context, common.Address) error, err error) {
		at, err = k.Create(ctx, transparent, impl, account(k.key), initialize)
		return at, func(ctx context.Context, impl common.Address) error {
			admin := crypto.CreateAddress(at, 1) // the first contract that the proxy created
			return k.SendTo(ctx, proxyAdmin, admin, "upgradeAndCall", at, impl, []byte{})
		}, err
	}},
	{"slots of its own", dispatcher(func(impl, _ common.Address) []any { return []any{impl, impl, impl} })},
	{"a dispatch by function", dispatcher(func(impl, rest common.Address) []any { return []any{impl, rest, rest} })},
}

// dispatcher deploys a contract that delegates by function: to an implementation, and to another one for the rest.
func dispatcher(facets func(impl, rest common.Address) []any) func(context.Context, *KMS, common.Address, []byte) (common.Address, func(context.Context, common.Address) error, error) {
	return func(ctx context.Context, k *KMS, impl common.Address, initialize []byte) (common.Address, func(context.Context, common.Address) error, error) {
		rest, err := k.Create(ctx, Plain)
		if err != nil {
			return common.Address{}, nil, err
		}
		at, err := k.Create(ctx, dispatch, append(facets(impl, rest), initialize)...)
		return at, func(ctx context.Context, to common.Address) error {
			return k.SendTo(ctx, dispatch, at, "dispatch", facets(to, rest)...)
		}, err
	}
}

// Deploy deploys a contract of the shape, like the package's Deploy. swap makes it run another implementation.
func (s Shape) Deploy(ctx context.Context, b Backend, o DeployOptions) (k *KMS, swap func(ctx context.Context, implementation string) error, err error) {
	k = newKMS(b, &o)
	impl, initialize, err := k.implementation(ctx, o.Implementation)
	if err != nil {
		return nil, nil, err
	}
	at, point, err := s.make(ctx, k, impl, initialize)
	k.address = at
	return k, func(ctx context.Context, implementation string) error {
		impl, err := k.Create(ctx, implementation)
		if err != nil {
			return err
		}
		return point(ctx, impl)
	}, err
}

// Create deploys one of the named contracts.
func (k *KMS) Create(ctx context.Context, name string, args ...any) (common.Address, error) {
	return k.create(ctx, name, args...)
}

// SendTo calls any writer of another of the named contracts.
func (k *KMS) SendTo(ctx context.Context, name string, at common.Address, method string, args ...any) error {
	a, err := Contract(name)
	if err == nil {
		_, err = k.transact(ctx, bind.NewBoundContract(at, a.ABI, k.backend, k.backend, k.backend), method, args...)
	}
	return err
}

// DeployShape deploys a contract of a shape on the chain.
func (c *Chain) DeployShape(ctx context.Context, s Shape, o DeployOptions) (*KMS, func(context.Context, string) error, error) {
	o.Mine = c.mine
	return s.Deploy(ctx, c.Client(), o)
}
