// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";

/// The contracts of an OP-stack chain on L1, to the published interface. Anybody may set anything.
contract RollupUpgradable {
    function upgradeTo(address implementation) external {
        ERC1967Utils.upgradeToAndCall(implementation, "");
    }
}

contract RollupConfig is RollupUpgradable {
    RollupPortal public optimismPortal;
    uint256 public l2ChainId;
    bool public paused;

    function set(RollupPortal portal, uint256 chainId) external {
        (optimismPortal, l2ChainId) = (portal, chainId);
    }

    function setPaused(bool value) external {
        paused = value;
    }

    function disputeGameFactory() external view returns (RollupFactory) {
        return optimismPortal.disputeGameFactory();
    }
}

contract RollupPortal is RollupUpgradable {
    RollupConfig public systemConfig;
    RollupRegistry public anchorStateRegistry;

    function set(RollupConfig config, RollupRegistry registry) external {
        (systemConfig, anchorStateRegistry) = (config, registry);
    }

    function disputeGameFactory() external view returns (RollupFactory) {
        return anchorStateRegistry.disputeGameFactory();
    }

    function respectedGameType() external view returns (uint32) {
        return anchorStateRegistry.respectedGameType();
    }

    function paused() external view returns (bool) {
        return systemConfig.paused();
    }
}

contract RollupRegistry is RollupUpgradable {
    struct Output {
        bytes32 root;
        uint256 number;
    }

    RollupConfig public systemConfig;
    RollupFactory public disputeGameFactory;
    RollupGame public anchorGame;
    Output private starting;
    mapping(address => bool) public isGameBlacklisted;
    uint32 public respectedGameType;
    uint64 public retirementTimestamp;

    function set(RollupConfig config, RollupFactory factory, uint32 gameType) external {
        (systemConfig, disputeGameFactory, respectedGameType) = (config, factory, gameType);
    }

    function setStarting(bytes32 root, uint256 number) external {
        starting = Output(root, number);
    }

    function setAnchorGame(RollupGame game) external {
        anchorGame = game;
    }

    function blacklist(address game) external {
        isGameBlacklisted[game] = true;
    }

    function retire(uint64 upTo) external {
        retirementTimestamp = upTo;
    }

    function paused() public view returns (bool) {
        return systemConfig.paused();
    }

    function getAnchorRoot() external view returns (bytes32, uint256) {
        if (address(anchorGame) == address(0)) return (starting.root, starting.number);
        return (anchorGame.rootClaim(), anchorGame.l2SequenceNumber());
    }

    function isGameRegistered(RollupGame game) public view returns (bool) {
        (uint32 gameType, bytes32 root, bytes memory extra) = game.gameData();
        (address known,) = disputeGameFactory.games(gameType, root, extra);
        return known == address(game) && game.anchorStateRegistry() == this;
    }

    function isGameRespected(RollupGame game) public view returns (bool) {
        return game.wasRespectedGameTypeWhenCreated();
    }

    function isGameRetired(RollupGame game) public view returns (bool) {
        return game.createdAt() <= retirementTimestamp;
    }

    function isGameProper(RollupGame game) public view returns (bool) {
        return isGameRegistered(game) && !isGameBlacklisted[address(game)] && !isGameRetired(game) && !paused();
    }

    function isGameClaimValid(RollupGame game) external view returns (bool) {
        return isGameProper(game) && isGameRespected(game) && game.resolvedAt() != 0 && game.status() == 2;
    }
}

/// Games are clones: code that delegates every call, with the clone's arguments appended to the call data.
contract RollupFactory is RollupUpgradable {
    struct Entry {
        uint32 gameType;
        uint64 time;
        address proxy;
    }

    Entry[] private entries;
    mapping(bytes32 => uint256) private indexPlusOne;
    mapping(uint32 => address) public gameImpls;

    function setImplementation(uint32 gameType, address implementation) external {
        gameImpls[gameType] = implementation;
    }

    function gameCount() external view returns (uint256) {
        return entries.length;
    }

    function gameAtIndex(uint256 index) external view returns (uint32 gameType, uint64 time, address proxy) {
        Entry storage e = entries[index];
        return (e.gameType, e.time, e.proxy);
    }

    function games(uint32 gameType, bytes32 root, bytes calldata extra) external view returns (address proxy, uint64 time) {
        uint256 i = indexPlusOne[uuid(gameType, root, extra)];
        if (i != 0) (proxy, time) = (entries[i - 1].proxy, entries[i - 1].time);
    }

    function uuid(uint32 gameType, bytes32 root, bytes calldata extra) private pure returns (bytes32) {
        return keccak256(abi.encode(gameType, root, extra));
    }

    function create(uint32 gameType, bytes32 root, bytes calldata extra) external {
        bytes memory args = abi.encodePacked(msg.sender, root, blockhash(block.number - 1), extra);
        uint16 size = uint16(args.length + 2);
        // Copies the call's data, the arguments and their length, and delegates.
        bytes memory code = abi.encodePacked(
            hex"365f5f37", hex"61", size, hex"603836395f5f61", size, hex"36015f73", gameImpls[gameType], hex"5af43d5f5f3e6034573d5ffd5b3d5ff3", args, size
        );
        bytes memory creation = abi.encodePacked(hex"61", uint16(code.length), hex"80600a5f395ff3", code);
        address proxy;
        assembly {
            proxy := create(0, add(creation, 32), mload(creation))
        }
        require(proxy != address(0));
        RollupGame(proxy).initialize();
        entries.push(Entry(gameType, uint64(block.timestamp), proxy));
        indexPlusOne[uuid(gameType, root, extra)] = entries.length;
    }

    /// The game stays in the list, but games() no longer returns it.
    function forget(uint32 gameType, bytes32 root, bytes calldata extra) external {
        delete indexPlusOne[uuid(gameType, root, extra)];
    }
}

contract RollupGame {
    RollupRegistry public immutable anchorStateRegistry;
    uint32 public immutable gameType;

    uint64 public createdAt;
    uint64 public resolvedAt;
    uint8 public status;
    bool public wasRespectedGameTypeWhenCreated;
    bytes32 public startingRootHash;
    uint256 public startingBlockNumber;
    uint256 public counteredByIntermediateRootIndexPlusOne;
    uint8 public proofCount;

    constructor(RollupRegistry registry, uint32 ofType) {
        (anchorStateRegistry, gameType) = (registry, ofType);
    }

    function initialize() external {
        require(createdAt == 0);
        createdAt = uint64(block.timestamp);
        wasRespectedGameTypeWhenCreated = anchorStateRegistry.respectedGameType() == gameType;
        address parent = parentAddress();
        if (parent == address(anchorStateRegistry)) {
            (startingRootHash, startingBlockNumber) = anchorStateRegistry.getAnchorRoot();
        } else {
            (startingRootHash, startingBlockNumber) = (RollupGame(parent).rootClaim(), RollupGame(parent).l2SequenceNumber());
        }
        proofCount = 1;
    }

    function set(uint8 newStatus, uint8 proofs, uint256 countered) external {
        (status, proofCount, counteredByIntermediateRootIndexPlusOne) = (newStatus, proofs, countered);
        resolvedAt = newStatus == 0 ? 0 : uint64(block.timestamp);
    }

    // The clone's arguments: creator (20 bytes), root, L1 head, L2 block number (32 each), parent (20), intermediate roots.

    function args() private pure returns (bytes calldata) {
        uint256 size = uint16(bytes2(msg.data[msg.data.length - 2:]));
        return msg.data[msg.data.length - size:msg.data.length - 2];
    }

    function rootClaim() public pure returns (bytes32) {
        return bytes32(args()[20:52]);
    }

    function l2SequenceNumber() public pure returns (uint256) {
        return uint256(bytes32(args()[84:116]));
    }

    function parentAddress() public pure returns (address) {
        return address(bytes20(args()[116:136]));
    }

    function intermediateOutputRoots() external pure returns (bytes memory) {
        return args()[136:];
    }

    function extraData() public pure returns (bytes memory) {
        return args()[84:];
    }

    function gameData() external view returns (uint32, bytes32, bytes memory) {
        return (gameType, rootClaim(), extraData());
    }
}

/// An implementation that replaces one function's answer, or reverts, and otherwise delegates to another implementation.
contract RollupAltered {
    address private immutable implementation;
    bytes4 private immutable selector;
    bool private immutable reverts;
    address private immutable answer;

    constructor(address other, bytes4 altered, bool fails, bytes memory output) {
        (implementation, selector, reverts) = (other, altered, fails);
        answer = address(new RollupBytes(output));
    }

    fallback() external {
        address to = implementation;
        if (msg.sig == selector) {
            require(!reverts);
            bytes memory output = answer.code;
            assembly {
                return(add(output, 33), sub(mload(output), 1))
            }
        }
        assembly {
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), to, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(ok) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}

/// Its code is a STOP byte followed by data.
contract RollupBytes {
    constructor(bytes memory content) {
        bytes memory code = bytes.concat(hex"00", content);
        assembly {
            return(add(code, 32), mload(code))
        }
    }
}
