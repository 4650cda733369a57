// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Kms} from "./Kms.sol";

/// A KMS that does not keep its two lists at slots 7 and 8. A reader that relies on slot numbers reads zeros there.
contract KmsMoved is Kms {
    struct Lists {
        mapping(bytes32 => bool) devices;
        mapping(bytes32 => bool) images;
    }

    bytes32 private constant PLACE = keccak256("testchain.moved.lists");

    function _devices() internal view override returns (mapping(bytes32 => bool) storage) {
        return _lists().devices;
    }

    function _images() internal view override returns (mapping(bytes32 => bool) storage) {
        return _lists().images;
    }

    function _lists() private pure returns (Lists storage lists) {
        bytes32 place = PLACE;
        assembly {
            lists.slot := place
        }
    }
}
