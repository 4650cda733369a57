// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";

// The generations of a KMS since January 2025, each with its getters, events and slots. They are put together from parts:
// the order in which a contract names its parts is its layout. That of August 2026 is Kms.

/// Slots 0 to 4.
abstract contract Described is UUPSUpgradeable, OwnableUpgradeable {
    struct KmsInfo {
        bytes k256Pubkey;
        bytes caPubkey;
        bytes quote;
        bytes eventlog;
    }

    KmsInfo public kmsInfo;
    string public gatewayAppId;

    constructor() {
        _disableInitializers();
    }

    function initialize(address firstOwner) external initializer {
        __Ownable_init(firstOwner);
    }

    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
    }

    function setGatewayAppId(string calldata id) external onlyOwner {
        gatewayAppId = id;
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}

/// One slot: apps with a controller.
abstract contract Apps {
    struct App {
        bool isRegistered;
        address controller;
    }

    mapping(address => App) public apps;

    event AppRegistered(address appId);
}

/// One slot: counts the apps of each caller.
abstract contract Sequences is Apps {
    mapping(address => uint256) public nextAppSequence;

    function registerApp(address controller) external {
        require(controller != address(0));
        address app = address(uint160(uint256(keccak256(abi.encode(msg.sender, nextAppSequence[msg.sender]++)))));
        apps[app] = App(true, controller);
        emit AppRegistered(app);
    }
}

/// One slot: apps without a controller.
abstract contract Registered {
    mapping(address => bool) public registeredApps;

    event AppRegistered(address appId);

    function registerApp(address app) external {
        registeredApps[app] = true;
        emit AppRegistered(app);
    }
}

/// Three slots.
abstract contract Lists is OwnableUpgradeable {
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) public kmsAllowedDeviceIds;
    mapping(bytes32 => bool) public allowedOsImages;

    event KmsDeviceAdded(bytes32 deviceId);
    event KmsDeviceRemoved(bytes32 deviceId);
    event OsImageHashAdded(bytes32 osImageHash);
    event OsImageHashRemoved(bytes32 osImageHash);
    event KmsAggregatedMrAdded(bytes32 mrAggregated);

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

    function addKmsAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = true;
        emit KmsAggregatedMrAdded(mr);
    }
}

/// One slot.
abstract contract AppAuth is OwnableUpgradeable {
    address public appAuthImplementation;

    event AppAuthImplementationSet(address implementation);

    function setAppAuthImplementation(address implementation) external onlyOwner {
        appAuthImplementation = implementation;
        emit AppAuthImplementationSet(implementation);
    }
}

/// The same slot, renamed.
abstract contract AppCode is OwnableUpgradeable {
    address public appImplementation;

    event AppImplementationSet(address implementation);

    function setAppImplementation(address implementation) external onlyOwner {
        appImplementation = implementation;
        emit AppImplementationSet(implementation);
    }
}

/// Before May 2025: the lists have other names.
abstract contract EarlyLists is OwnableUpgradeable {
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) public allowedKmsDeviceIds;
    mapping(bytes32 => bool) public appAllowedImages;

    event KmsAggregatedMrAdded(bytes32 mrAggregated);
    event KmsDeviceIdRegistered(bytes32 deviceId);
    event AppImageMrAdded(bytes32 mr);

    function addKmsAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = true;
        emit KmsAggregatedMrAdded(mr);
    }

    function registerKmsDeviceId(bytes32 id) external onlyOwner {
        allowedKmsDeviceIds[id] = true;
        emit KmsDeviceIdRegistered(id);
    }

    function addAppImageMr(bytes32 mr) external onlyOwner {
        appAllowedImages[mr] = true;
        emit AppImageMrAdded(mr);
    }
}

contract KmsBefore is Described, Apps, EarlyLists, Sequences {}

contract Kms20250521 is Described, Apps, Lists, Sequences {}

contract Kms20250617 is Described, Apps, Lists, Sequences, AppAuth {}

/// For two days: no apps, so that the lists are one slot lower than before and after.
contract Kms20250702 is Described, Lists, AppAuth {}

contract Kms20250703 is Described, Registered, Lists, AppAuth {}

contract Kms20250714 is Described, Registered, Lists, AppCode {}

contract Kms20260531 is Ownable2StepUpgradeable, Described, Registered, Lists, AppCode {
    function transferOwnership(address to) public override(OwnableUpgradeable, Ownable2StepUpgradeable) {
        super.transferOwnership(to);
    }

    function _transferOwnership(address to) internal override(OwnableUpgradeable, Ownable2StepUpgradeable) {
        super._transferOwnership(to);
    }
}

/// An implementation whose owner hides entries behind getters of an older generation.
contract KmsHostile is Described, Registered, Lists, AppCode {
    /// These leave no event.
    function hideDevice(bytes32 id) external onlyOwner {
        kmsAllowedDeviceIds[id] = true;
    }

    function hideImage(bytes32 id) external onlyOwner {
        allowedOsImages[id] = true;
    }

    function hideAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = true;
    }

    /// Reads the slots of entries whose id is a padded address.
    function nextAppSequence(address caller) external view returns (uint256 n) {
        bytes32 id = bytes32(uint256(uint160(caller)));
        if (kmsAllowedDeviceIds[id]) n++;
        if (allowedOsImages[id]) n++;
        if (kmsAllowedAggregatedMrs[id]) n++;
    }

    /// Reads the slot of one device.
    function appAuthImplementation() external view returns (address) {
        return kmsAllowedDeviceIds[keccak256("hidden")] ? address(1) : address(0);
    }

    /// Burns all gas if it is called as an older implementation.
    function pendingOwner() external view returns (address) {
        while (kmsInfo.quote.length == 0) {}
        return address(0);
    }
}
