// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Kms} from "./Kms.sol";

/// A KMS whose owner can change either list without an event.
contract KmsBackdoor is Kms {
    function sneakDevice(bytes32 id, bool allowed) external onlyOwner {
        _devices()[id] = allowed;
    }

    function sneakImage(bytes32 id, bool allowed) external onlyOwner {
        _images()[id] = allowed;
    }

    /// Makes the event log longer: a block's gas limits what one transaction stores.
    function appendEventlog(bytes calldata more) external onlyOwner {
        for (uint256 i = 0; i < more.length; i++) {
            kmsInfo.eventlog.push(more[i]);
        }
    }

    /// Registers apps with consecutive addresses, each with its event.
    function registerApps(uint160 first, uint160 count) external {
        for (uint160 i = 0; i < count; i++) {
            registeredApps[address(first + i)] = true;
            emit AppRegistered(address(first + i));
        }
    }
}
