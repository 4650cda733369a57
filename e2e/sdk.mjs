// Asks an API for a chain's on-chain detail with the official client, whose schema must accept the answer, and prints it.
// Usage: node sdk.mjs BASE_URL API_KEY CHAIN
import { createClient } from "@phala/cloud";

const [baseURL, apiKey, chain] = process.argv.slice(2);
const client = createClient({ baseURL, apiKey });
const result = await client.safeGetKmsOnChainDetail({ chain });
if (!result.success) {
  console.error(`${result.error.name}: ${result.error.message}`);
  process.exit(1);
}
console.log(JSON.stringify(result.data));
