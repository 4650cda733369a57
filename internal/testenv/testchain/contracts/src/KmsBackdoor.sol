// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Kms} from "./Kms.sol";

/// A KMS whose owner can change either list without leaving an event behind.
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
}
