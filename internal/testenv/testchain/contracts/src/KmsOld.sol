// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";

/// A KMS of the older generation: ownership moves in one step, without pendingOwner, and there is no event PolicyChanged.
/// Lists, getters and slots are those of Kms.
contract KmsOld is UUPSUpgradeable, OwnableUpgradeable {
    struct KmsInfo {
        bytes k256Pubkey;
        bytes caPubkey;
        bytes quote;
        bytes eventlog;
    }

    KmsInfo public kmsInfo;
    string public gatewayAppId;
    mapping(address => bool) public registeredApps;
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) public kmsAllowedDeviceIds;
    mapping(bytes32 => bool) public allowedOsImages;
    address public appImplementation;

    event KmsDeviceAdded(bytes32 deviceId);
    event KmsDeviceRemoved(bytes32 deviceId);
    event OsImageHashAdded(bytes32 osImageHash);
    event OsImageHashRemoved(bytes32 osImageHash);

    constructor() {
        _disableInitializers();
    }

    function initialize(address firstOwner) external initializer {
        __Ownable_init(firstOwner);
    }

    function addKmsDevice(bytes32 id) external onlyOwner {
        kmsAllowedDeviceIds[id] = true;
        emit KmsDeviceAdded(id);
    }

    function removeKmsDevice(bytes32 id) external onlyOwner {
        kmsAllowedDeviceIds[id] = false;
        emit KmsDeviceRemoved(id);
    }

    function addOsImageHash(bytes32 id) external onlyOwner {
        allowedOsImages[id] = true;
        emit OsImageHashAdded(id);
    }

    function removeOsImageHash(bytes32 id) external onlyOwner {
        allowedOsImages[id] = false;
        emit OsImageHashRemoved(id);
    }

    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
    }

    function setGatewayAppId(string calldata id) external onlyOwner {
        gatewayAppId = id;
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}
