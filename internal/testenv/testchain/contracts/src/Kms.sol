// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {ERC165Upgradeable} from "@openzeppelin/contracts-upgradeable/utils/introspection/ERC165Upgradeable.sol";

/// A KMS contract with the documented interface, events and storage slots of a dstack KMS.
/// Events are emitted even where nothing changes.
contract Kms is UUPSUpgradeable, Ownable2StepUpgradeable, ERC165Upgradeable {
    struct KmsInfo {
        bytes k256Pubkey;
        bytes caPubkey;
        bytes quote;
        bytes eventlog;
    }

    // The order is the layout: slots 0 to 9. Ownership and initialization are in OpenZeppelin's namespaces.
    KmsInfo public kmsInfo;
    string public gatewayAppId;
    mapping(address => bool) public registeredApps;
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) private deviceList;
    mapping(bytes32 => bool) private imageList;
    address public appImplementation;

    event KmsDeviceAdded(bytes32 deviceId);
    event KmsDeviceRemoved(bytes32 deviceId);
    event OsImageHashAdded(bytes32 osImageHash);
    event OsImageHashRemoved(bytes32 osImageHash);
    event KmsAggregatedMrAdded(bytes32 mrAggregated);
    event KmsAggregatedMrRemoved(bytes32 mrAggregated);
    event AppRegistered(address appId);
    event KmsInfoSet(bytes k256Pubkey);
    event GatewayAppIdSet(string gatewayAppId);
    event AppImplementationSet(address implementation);
    event PolicyChanged(address indexed actor, bytes32 indexed policy, bytes32 indexed value, bool enabled);

    error ZeroAddress();

    constructor() {
        _disableInitializers();
    }

    function initialize(address firstOwner) external initializer {
        __Ownable_init(firstOwner);
    }

    function kmsAllowedDeviceIds(bytes32 id) external view virtual returns (bool) {
        return _devices()[id];
    }

    function allowedOsImages(bytes32 id) external view virtual returns (bool) {
        return _images()[id];
    }

    function addKmsDevice(bytes32 id) external onlyOwner {
        _devices()[id] = true;
        emit KmsDeviceAdded(id);
        _changed("kms-device", id, true);
    }

    function removeKmsDevice(bytes32 id) external onlyOwner {
        _devices()[id] = false;
        emit KmsDeviceRemoved(id);
        _changed("kms-device", id, false);
    }

    function addOsImageHash(bytes32 id) external onlyOwner {
        _images()[id] = true;
        emit OsImageHashAdded(id);
        _changed("os-image", id, true);
    }

    function removeOsImageHash(bytes32 id) external onlyOwner {
        _images()[id] = false;
        emit OsImageHashRemoved(id);
        _changed("os-image", id, false);
    }

    function addKmsAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = true;
        emit KmsAggregatedMrAdded(mr);
        _changed("kms-aggregated-mr", mr, true);
    }

    function removeKmsAggregatedMr(bytes32 mr) external onlyOwner {
        kmsAllowedAggregatedMrs[mr] = false;
        emit KmsAggregatedMrRemoved(mr);
        _changed("kms-aggregated-mr", mr, false);
    }

    /// Anyone may register any app.
    function registerApp(address app) external {
        require(app != address(0), ZeroAddress());
        registeredApps[app] = true;
        emit AppRegistered(app);
        _changed("registered-app", _word(app), true);
    }

    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
        emit KmsInfoSet(info.k256Pubkey);
        _changed("kms-info", keccak256(info.k256Pubkey), true);
    }

    function setKmsQuote(bytes calldata quote) external onlyOwner {
        kmsInfo.quote = quote;
        _changed("kms-info", keccak256(quote), true);
    }

    function setKmsEventlog(bytes calldata eventlog) external onlyOwner {
        kmsInfo.eventlog = eventlog;
        _changed("kms-info", keccak256(eventlog), true);
    }

    function setGatewayAppId(string calldata id) external onlyOwner {
        gatewayAppId = id;
        emit GatewayAppIdSet(id);
        _changed("gateway-app-id", keccak256(bytes(id)), true);
    }

    function setAppImplementation(address implementation) external onlyOwner {
        require(implementation != address(0), ZeroAddress());
        appImplementation = implementation;
        emit AppImplementationSet(implementation);
        _changed("app-implementation", _word(implementation), true);
    }

    function _authorizeUpgrade(address implementation) internal override onlyOwner {
        _changed("implementation-upgrade", _word(implementation), true);
    }

    /// Virtual, so that an implementation may keep the lists elsewhere.
    function _devices() internal view virtual returns (mapping(bytes32 => bool) storage) {
        return deviceList;
    }

    function _images() internal view virtual returns (mapping(bytes32 => bool) storage) {
        return imageList;
    }

    function _changed(bytes memory policy, bytes32 value, bool enabled) private {
        emit PolicyChanged(msg.sender, keccak256(policy), value, enabled);
    }

    function _word(address a) private pure returns (bytes32) {
        return bytes32(uint256(uint160(a)));
    }
}
