// A gRPC client for Node: node client.js MODEL FILE [HOST:PORT]
// npm install @grpc/grpc-js @grpc/proto-loader google-proto-files

const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTOS = path.join(__dirname, "../../gateway/grpc/protos");
const GOOGLE = path.dirname(require.resolve("google-proto-files/package.json")); // has google/rpc/status.proto

const [model, file, address = "localhost:7070"] = process.argv.slice(2);
const loaded = loader.loadSync("inference.proto", { includeDirs: [PROTOS, GOOGLE], keepCase: true });
const { InferenceAPIsService } = grpc.loadPackageDefinition(loaded).org.pytorch.serve.grpc.inference;
const client = new InferenceAPIsService(address, grpc.credentials.createInsecure());

const request = { model_name: model, input: { data: fs.readFileSync(file) } };
client.Predictions(request, { deadline: Date.now() + 60_000 }, (error, answer) => {
  if (error) {
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  } else {
    process.stdout.write(answer.prediction);
  }
});
