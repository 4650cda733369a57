// Compares the API's claims about KMS contracts with the chain, with the official client and viem, and prints the differences.
// Usage: node audit.mjs API_URL CHAIN CHAIN_ID RPC_URL. Exit code 1 if something differs, 2 on failure.
//
// It fetches the claim and the block concurrently. Then it makes one multicall for all listed ids, in as few JSON-RPC batches as
// geth accepts, all at the block that was finalized at first.
import { createClient } from "@phala/cloud";
import { createPublicClient, defineChain, http, parseAbi, type Address, type Hex } from "viem";

const abi = parseAbi([
  "function kmsAllowedDeviceIds(bytes32) view returns (bool)",
  "function allowedOsImages(bytes32) view returns (bool)",
]);
const getters = { device: "kmsAllowedDeviceIds", os_image: "allowedOsImages" } as const;
const batchSize = 20; // parts of 500 ids; geth accepts 5 MiB in one request
process.on("uncaughtException", (err) => {
  console.error(err);
  process.exit(2);
});
const multicall3 = { address: "0xcA11bde05977b3631167028862bE2a173976CA11" } as const;

interface Row {
  contract: Address;
  list: keyof typeof getters;
  id: Hex;
  claim: boolean;
}

function bytes32(text: string): Hex {
  const digits = text.toLowerCase().replace(/^0x/, "");
  if (!/^[0-9a-f]{64}$/.test(digits)) throw new Error(`${JSON.stringify(text.slice(0, 100))} is no bytes32`);
  return `0x${digits}`;
}

async function claims(chain: string): Promise<Row[]> {
  const detail = await api.getKmsOnChainDetail({ chain });
  const rows: Row[] = [];
  for (const c of detail.contracts) {
    const contract = c.contract_address.toLowerCase() as Address;
    for (const d of c.devices) {
      if (d.on_chain_allowed != null) rows.push({ contract, list: "device", id: bytes32(d.device_id), claim: d.on_chain_allowed });
    }
    for (const i of c.os_images) {
      if (i.on_chain_allowed != null && i.os_image_hash != null) {
        rows.push({ contract, list: "os_image", id: bytes32(i.os_image_hash), claim: i.on_chain_allowed });
      }
    }
  }
  return rows;
}

const [baseURL, name, id, url] = process.argv.slice(2) as [string, string, string, string];
const api = createClient({ baseURL, apiKey: "bench" });
const client = createPublicClient({
  chain: defineChain({
    id: Number(id), name, nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [url] } }, contracts: { multicall3 },
  }),
  transport: http(url, { batch: { batchSize }, timeout: 60_000 }),
});
const [rows, block] = await Promise.all([claims(name), client.getBlock({ blockTag: "finalized" })]);
const answers = await client.multicall({
  allowFailure: false,
  blockNumber: block.number,
  batchSize: 36 * 500,
  contracts: rows.map((r) => ({ address: r.contract, abi, functionName: getters[r.list], args: [r.id] as const })),
});
rows.forEach((r, i) => {
  if (answers[i] !== r.claim) {
    console.log(`${r.contract} ${r.list} ${r.id} ${r.claim} ${answers[i]}`);
    process.exitCode = 1;
  }
});
