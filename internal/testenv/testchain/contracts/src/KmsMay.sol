// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";

/// A KMS of the first generations of the main line (May and June 2025): apps have a controller, and whoever registers
/// them is counted. Lists, getters and slots are those of Kms.
contract KmsMay is UUPSUpgradeable, OwnableUpgradeable {
    struct KmsInfo {
        bytes k256Pubkey;
        bytes caPubkey;
        bytes quote;
        bytes eventlog;
    }

    struct App {
        bool isRegistered;
        address controller;
    }

    KmsInfo public kmsInfo;
    string public gatewayAppId;
    mapping(address => App) public apps;
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) public kmsAllowedDeviceIds;
    mapping(bytes32 => bool) public allowedOsImages;
    mapping(address => uint256) public nextAppSequence;
    address public appAuthImplementation;

    event KmsDeviceAdded(bytes32 deviceId);
    event KmsDeviceRemoved(bytes32 deviceId);
    event OsImageHashAdded(bytes32 osImageHash);
    event OsImageHashRemoved(bytes32 osImageHash);
    event KmsAggregatedMrAdded(bytes32 mrAggregated);
    event AppRegistered(address appId);
    event AppAuthImplementationSet(address implementation);
    event AppImageMrAdded(bytes32 mr);

    constructor() {
        _disableInitializers();
    }

    function initialize(address firstOwner) external initializer {
        __Ownable_init(firstOwner);
    }

    /// Anyone may register apps. Each caller has a sequence of them.
    function registerApp(address controller) external {
        address app = address(uint160(uint256(keccak256(abi.encode(msg.sender, nextAppSequence[msg.sender]++)))));
        apps[app] = App(true, controller);
        emit AppRegistered(app);
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

    function addKmsAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = true;
        emit KmsAggregatedMrAdded(mr);
    }

    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
    }

    function setGatewayAppId(string calldata id) external onlyOwner {
        gatewayAppId = id;
    }

    function setAppAuthImplementation(address implementation) external onlyOwner {
        appAuthImplementation = implementation;
        emit AppAuthImplementationSet(implementation);
    }

    /// Writes like the generation before, whose mapping is allowedOsImages now.
    function addAppImageMr(bytes32 mr) external onlyOwner {
        allowedOsImages[mr] = true;
        emit AppImageMrAdded(mr);
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}

/// Registers apps of a KmsMay in its own name.
contract Registrar {
    function register(KmsMay kms, address controller) external {
        kms.registerApp(controller);
    }

    /// Registers one app of a KMS of any generation again and again.
    function flood(KmsMay kms, address app, uint256 times) external {
        for (uint256 i = 0; i < times; i++) kms.registerApp(app);
    }
}
