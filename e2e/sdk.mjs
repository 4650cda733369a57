// Makes one API call with the official client, whose schema must accept the answer, and prints the answer.
// Usage: node sdk.mjs BASE_URL API_KEY VERSION ACTION PARAMETERS, such as … 2026-01-21 GetKmsInfo '{"kms_id": "base"}'.
// A version that the client does not know is set by header, to bypass the client's check.
import { createClient } from "@phala/cloud";

const [baseURL, apiKey, version, action, parameters] = process.argv.slice(2);
const client = createClient({ baseURL, apiKey, version, headers: { "X-Phala-Version": version } });
const result = await client[`safe${action}`](JSON.parse(parameters));
if (!result.success) {
  console.error(`${result.error.name}: ${result.error.message}`);
  process.exit(1);
}
console.log(JSON.stringify(result.data));
