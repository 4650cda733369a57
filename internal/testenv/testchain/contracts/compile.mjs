// Compiles src/ into contracts.json, which the Go package embeds: name -> {abi, bytecode}.
// With --check it writes nothing and exits 1 when contracts.json is not what the source gives.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import solc from "solc";

const require = createRequire(import.meta.url);
const here = (path) => new URL(path, import.meta.url);
const proxy = "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";

const sources = { [proxy]: { content: readFileSync(require.resolve(proxy), "utf8") } };
for (const file of readdirSync(here("src")).sort()) {
  sources[`src/${file}`] = { content: readFileSync(here(`src/${file}`), "utf8") };
}

// No metadata in the bytecode: it would hash comments and paths. Cancun: what anvil, geth and the simulated node all run.
const input = {
  language: "Solidity",
  sources,
  settings: {
    evmVersion: "cancun",
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
};
const findImport = (path) => ({ contents: readFileSync(require.resolve(path), "utf8") });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));

// What KmsWriting is for: transient storage that is left behind, and selfdestruct.
const meant = ["2394", "1699"];
const problems = (output.errors ?? []).filter((e) => !meant.includes(e.errorCode));
for (const p of problems) console.error(p.formattedMessage);
if (problems.length > 0) process.exit(1);

const artifact = {};
for (const path of Object.keys(sources)) {
  for (const [name, c] of Object.entries(output.contracts[path])) {
    artifact[name] = { abi: c.abi, bytecode: `0x${c.evm.bytecode.object}` };
  }
}
const text = `${JSON.stringify(artifact, null, 1)}\n`;
const committed = here("contracts.json");

if (!process.argv.includes("--check")) {
  writeFileSync(committed, text);
} else if (readFileSync(committed, "utf8") !== text) {
  console.error("contracts.json is not what src/ compiles to: run npm run build");
  process.exit(1);
}
