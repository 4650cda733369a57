// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {UpgradeableBeacon} from "@openzeppelin/contracts/proxy/beacon/UpgradeableBeacon.sol";
import {BeaconProxy} from "@openzeppelin/contracts/proxy/beacon/BeaconProxy.sol";
import {TransparentUpgradeableProxy, ProxyAdmin} from "@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol";
import {Proxy} from "@openzeppelin/contracts/proxy/Proxy.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Kms} from "./Kms.sol";

contract KmsBeacon is UpgradeableBeacon {
    constructor(address implementation, address owner) UpgradeableBeacon(implementation, owner) {}
}

contract KmsBehindBeacon is BeaconProxy {
    constructor(address beacon, bytes memory call) BeaconProxy(beacon, call) {}
}

contract KmsTransparent is TransparentUpgradeableProxy {
    constructor(address implementation, address owner, bytes memory call) TransparentUpgradeableProxy(implementation, owner, call) {}
}

contract KmsProxyAdmin is ProxyAdmin {
    constructor(address owner) ProxyAdmin(owner) {}
}

/// A proxy that does not keep its implementations in ERC-1967 slots. Each of the two lists has its own, and so has the rest.
contract KmsDispatch is Proxy {
    struct Facets {
        address devices;
        address images;
        address rest;
        address owner;
    }

    bytes32 private constant PLACE = keccak256("testchain.dispatch");

    constructor(address devices, address images, address rest, bytes memory call) {
        _facets().owner = msg.sender;
        _set(devices, images, rest);
        Address.functionDelegateCall(rest, call);
    }

    receive() external payable {}

    function dispatch(address devices, address images, address rest) external {
        require(msg.sender == _facets().owner);
        _set(devices, images, rest);
    }

    function _set(address devices, address images, address rest) private {
        Facets storage f = _facets();
        (f.devices, f.images, f.rest) = (devices, images, rest);
    }

    /// Every call reads the proxy's owner, so that the slot is explained.
    function _implementation() internal view override returns (address) {
        Facets storage f = _facets();
        require(f.owner != address(0));
        if (msg.sig == Kms.kmsAllowedDeviceIds.selector) return f.devices;
        if (msg.sig == Kms.allowedOsImages.selector) return f.images;
        return f.rest;
    }

    function _facets() private pure returns (Facets storage f) {
        bytes32 place = PLACE;
        assembly {
            f.slot := place
        }
    }
}

/// Looks up an id in a list of its caller. If flipped, it returns the opposite.
contract KmsList {
    bool private immutable flipped;

    constructor(bool flip) {
        flipped = flip;
    }

    function has(uint256 place, bytes32 id) external view returns (bool) {
        bytes32 slot = keccak256(abi.encode(id, place));
        bool listed;
        assembly {
            listed := sload(slot)
        }
        return listed != flipped;
    }
}

/// A list that other contracts read.
contract KmsRegistry {
    address public owner = msg.sender;
    mapping(bytes32 => bool) public has;

    function set(bytes32 id, bool allowed) external {
        require(msg.sender == owner);
        has[id] = allowed;
    }
}

/// A KMS whose device list is in another contract: a library over its own storage, or a registry.
contract KmsHelped is Kms {
    bytes32 private constant PLACE = keccak256("testchain.helped");

    function setLibrary(address library_) external onlyOwner {
        _set(library_, 0);
    }

    function setRegistry(address registry) external onlyOwner {
        _set(registry, 1);
    }

    function kmsAllowedDeviceIds(bytes32 id) external view override returns (bool) {
        (address helper, uint256 foreign) = _get();
        if (foreign == 1) return KmsRegistry(helper).has(id);
        uint256 place;
        mapping(bytes32 => bool) storage list = _devices();
        assembly {
            place := list.slot
        }
        return abi.decode(_asView(Address.functionDelegateCall)(helper, abi.encodeCall(KmsList.has, (place, id))), (bool));
    }

    function _asView(function(address, bytes memory) internal returns (bytes memory) f)
        private
        pure
        returns (function(address, bytes memory) internal view returns (bytes memory) g)
    {
        assembly {
            g := f
        }
    }

    function _set(address helper, uint256 foreign) private {
        bytes32 place = PLACE;
        assembly {
            sstore(place, or(helper, shl(160, foreign)))
        }
    }

    function _get() private view returns (address helper, uint256 foreign) {
        bytes32 place = PLACE;
        assembly {
            helper := sload(place)
            foreign := shr(160, helper)
            helper := and(helper, sub(shl(160, 1), 1))
        }
    }
}

/// A KMS whose device getter misbehaves, such as by writing, and then answers.
contract KmsWriting is Kms {
    string private how;
    bytes32 private only; // zero means every id

    event Asked();

    function setHow(string calldata it, bytes32 id) external payable onlyOwner {
        (how, only) = (it, id);
    }

    function kmsAllowedDeviceIds(bytes32 id) external view override returns (bool) {
        if (only == 0 || only == id) _asView(_write)(id);
        return _devices()[id];
    }

    function _write(bytes32 id) private {
        bytes32 it = keccak256(bytes(how));
        if (it == keccak256("SSTORE")) assembly { sstore(id, 1) }
        if (it == keccak256("TSTORE")) assembly { tstore(id, 1) }
        if (it == keccak256("LOG")) emit Asked();
        if (it == keccak256("CREATE")) assembly { pop(create(0, 0, 0)) }
        if (it == keccak256("CREATE2")) assembly { pop(create2(0, 0, 0, id)) }
        if (it == keccak256("value")) assembly { pop(call(gas(), caller(), 1, 0, 0, 0, 0)) }
        if (it == keccak256("SELFDESTRUCT")) this.destroy();
    }

    function destroy() external {
        assembly {
            selfdestruct(caller())
        }
    }

    function _asView(function(bytes32) internal f) private pure returns (function(bytes32) internal view g) {
        assembly {
            g := f
        }
    }
}
