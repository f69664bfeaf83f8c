#include "kept_maps.h"

#include <algorithm>
#include <numeric>

namespace gatecast {
namespace {

// Blocks of a view with these extents; none where it holds vectors, or is not there.
std::optional<MapPlace> place(const Instruction& i, const std::string& view, int64_t rows, int64_t columns,
                              int64_t blocks) {
  const int64_t bits = mantissa_bits(i(view + "_format"));
  if (!bits) return std::nullopt;
  return MapPlace{i(view + "_address"), i(view + "_row"), i(view + "_pixel"), rows, columns, blocks, bits};
}

std::optional<MapPlace> place(const Instruction& i, const std::string& view, int64_t blocks) {
  return place(i, view, i(view + "_rows"), i(view + "_columns"), blocks);
}

}  // namespace

bool MapPlace::overlaps(int64_t from, int64_t to) const { return address < to && from < end(); }

bool MapPlace::dense() const { return pixel == blocks && row == pixel * columns; }

Traffic::Traffic(const Instruction& i) {
  const std::string& name = i.name();
  if (name == "load") out = place(i, "out", i("out_blocks"));
  if (name == "store") in = place(i, "in", i("in_blocks"));
  if (name == "convolve" || name == "pool" || name == "map") {
    const int64_t rows = i("out_rows"), columns = i("out_columns"), blocks = i("out_blocks");
    if (name == "convolve") {
      const int64_t groups = i("group_blocks") ? up(blocks, i("group_blocks")) : 1;
      in = place(i, "in", groups * i("in_blocks"));
      other = place(i, "residual", rows, columns, blocks);
    } else if (name == "pool") {
      in = place(i, "in", blocks);
    } else {
      in = place(i, "a", up(rows, i("repeat_y")), up(columns, i("repeat_x")), blocks);
      other = place(i, "b", rows, columns, blocks);
    }
    if (name != "convolve" || !i("suspend")) out = place(i, "out", rows, columns, blocks);
  }
}

namespace {

// What is still there of a map while other instructions write over it.
class Remains {
 public:
  explicit Remains(const MapPlace& map) : map_(map), parts_{{map.address, map.end()}} {}

  bool none() const { return parts_.empty(); }
  bool whole() const { return whole_; }
  bool overlap(const MapPlace& place) const {
    return std::any_of(parts_.begin(), parts_.end(), [&](const Part& p) { return place.overlaps(p.from, p.to); });
  }

  // Of one that leaves gaps, only that it is the same is seen: what is there is never less than this says.
  void overwrite(const MapPlace& by) {
    if (!overlap(by)) return;
    whole_ = false;
    std::vector<Part> left;
    if (by.same_place(map_)) return parts_.swap(left);
    if (!by.dense()) return;
    for (const Part& p : parts_) {
      if (p.from < by.address) left.push_back({p.from, std::min(p.to, by.address)});
      if (by.end() < p.to) left.push_back({std::max(p.from, by.end()), p.to});
    }
    parts_.swap(left);
  }

 private:
  struct Part {
    int64_t from, to;
  };

  const MapPlace& map_;
  std::vector<Part> parts_;
  bool whole_ = true;
};

// A map that is not gone after so many steps stays in blocks: no Program takes long to look through.
constexpr int kMostSteps = 1000;

// A map that is kept: the step that makes it, those that multiply it, those that read each pixel, and where it lies.
struct KeptMap {
  int maker, last;  // steps; the map is there from one to the other
  std::vector<int> inputs, others;
  std::vector<int32_t> positions;
  int64_t plane_bytes;
  size_t bytes, offset = 0;

  bool live_with(const KeptMap& other) const { return maker <= other.last && other.maker <= last; }
  bool has_all() const {
    return std::none_of(positions.begin(), positions.end(), [](int32_t position) { return position < 0; });
  }
};

class Keeper {
 public:
  Keeper(std::vector<Step>& steps, const std::vector<Traffic>& traffic) : steps_(steps), traffic_(traffic) {
    reads_lines_.resize(steps.size());
    for (int step = 0; step < int(steps.size()); ++step)
      if (traffic_[size_t(step)].out && can_make(step)) keep(step);
  }

  Buffer<uint8_t> connect() {
    Buffer<uint8_t> memory(place());
    for (const KeptMap& map : maps_) connect(map, memory.data() + map.offset);
    return memory;
  }

 private:
  struct Readers {
    std::vector<int> inputs, others;  // of convolutions by tiles; residuals of these, and pools
    bool blocks = false;              // whether something else reads it

    int last() const {
      int step = 0;
      for (const auto* some : {&inputs, &others})
        for (const int reader : *some) step = std::max(step, reader);
      return step;
    }
  };

  ConvolveStep* tiled(int step) const {
    const auto* convolve = std::get_if<std::unique_ptr<ConvolveStep>>(&steps_[size_t(step)].work);
    return convolve && (*convolve)->maker ? convolve->get() : nullptr;
  }
  Pool* pool(int step) const { return std::get_if<Pool>(&steps_[size_t(step)].work); }
  Transfer* load(int step) const { return std::get_if<Transfer>(&steps_[size_t(step)].work); }
  const TilingMaker& tiling(int step) const { return *tiled(step)->maker; }

  // Pools whose input is kept can keep what they make.
  bool can_make(int step) const {
    return tiled(step) || (pool(step) && reads_lines_[size_t(step)]) || (load(step) && load(step)->spreads());
  }

  // Who reads what a step has written, up to its end or, in the next run, up to the same step.
  Readers readers_of(int writer) const {
    const MapPlace& map = *traffic_[size_t(writer)].out;
    const int count = int(traffic_.size());
    Readers found;
    Remains remains(map);
    for (int n = 1; n < count && !remains.none() && !found.blocks; ++n) {
      found.blocks = n > kMostSteps;
      const int step = (writer + n) % count;
      const Traffic& t = traffic_[size_t(step)];
      const auto read = [&](const std::optional<MapPlace>& place, bool can_read, std::vector<int>& readers) {
        if (!place || !remains.overlap(*place)) return;
        if (can_read && remains.whole() && step > writer && *place == map)
          readers.push_back(step);
        else
          found.blocks = true;
      };
      if (pool(step))
        read(t.in, t.out.has_value(), found.others);
      else
        read(t.in, tiled(step), found.inputs);
      read(t.other, tiled(step), found.others);
      if (t.out) remains.overwrite(*t.out);
    }
    return found;
  }

  // Keeps one map for all that would spread it alike. Others read one that has all pixels.
  void keep(int writer) {
    const Readers readers = readers_of(writer);
    if (readers.blocks) return;
    std::vector<KeptMap> maps;
    for (const int input : readers.inputs) {
      const TilingMaker& t = tiling(input);
      if (t.kept_bytes() > TilingMaker::kMostSpread) return;
      const auto same = std::find_if(maps.begin(), maps.end(),
                                     [&](const KeptMap& map) { return tiling(map.inputs[0]).same_planes(t); });
      if (same != maps.end())
        same->inputs.push_back(input);
      else
        maps.push_back(
            {writer, readers.last(), {input}, {}, t.positions(), t.kept_plane_bytes(), size_t(t.kept_bytes())});
    }
    if (!readers.others.empty()) {
      auto whole = std::find_if(maps.begin(), maps.end(), [](const KeptMap& map) { return map.has_all(); });
      if (whole == maps.end()) {
        if (plain_bytes(writer) > TilingMaker::kMostSpread) return;
        whole = maps.insert(whole, plain_map(writer, readers.last()));
      }
      whole->others = readers.others;
    }
    if (maps.size() > kMostFeeds) return;
    maps_.insert(maps_.end(), maps.begin(), maps.end());
    for (const int reader : readers.others) reads_lines_[size_t(reader)] = true;
  }

  // Of all pixels and nothing else.
  KeptMap plain_map(int writer, int last) const {
    const MapPlace& map = *traffic_[size_t(writer)].out;
    std::vector<int32_t> positions(size_t(map.rows * map.columns));
    std::iota(positions.begin(), positions.end(), 0);
    return {writer, last, {}, {}, positions, plain_bytes(writer) / map.blocks, size_t(plain_bytes(writer))};
  }

  int64_t plain_bytes(int writer) const {
    const MapPlace& map = *traffic_[size_t(writer)].out;
    return plane_bytes_for(map.rows * map.columns) * map.blocks;
  }

  // Lays maps that are there at the same time beside each other; returns how large the memory is.
  size_t place() {
    size_t bytes = 0;
    for (size_t n = 0; n < maps_.size(); ++n) {
      KeptMap& map = maps_[n];
      std::vector<const KeptMap*> beside;
      for (size_t m = 0; m < n; ++m)
        if (maps_[m].live_with(map)) beside.push_back(&maps_[m]);
      std::sort(beside.begin(), beside.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
      for (const KeptMap* other : beside)
        if (map.offset < other->offset + other->bytes && other->offset < map.offset + map.bytes)
          map.offset = other->offset + other->bytes;
      bytes = std::max(bytes, map.offset + map.bytes);
    }
    return bytes;
  }

  Feeds& feeds_of(int step) const {
    if (pool(step)) return pool(step)->feeds;
    return load(step) ? load(step)->feeds : tiled(step)->work.feeds;
  }

  void connect(const KeptMap& map, uint8_t* lines) {
    Step& maker = steps_[size_t(map.maker)];
    Feeds& feeds = feeds_of(map.maker);
    auto& positions = maker.positions[feeds.count];
    positions = map.positions;
    const SpreadMap feed{lines, map.plane_bytes, positions.data()};
    feeds.maps[feeds.count++] = feed;
    for (const int other : map.others) (pool(other) ? pool(other)->lines : tiled(other)->work.residual) = feed;
    for (const int input : map.inputs) tiled(input)->maker->keep(lines);
    if (map.inputs.empty()) return;
    for (const auto& margin : tiling(map.inputs[0]).margins(positions))
      maker.margins.push_back({lines + margin.first * kPositionBytes, size_t(margin.count * kPositionBytes)});
  }

  std::vector<Step>& steps_;
  const std::vector<Traffic>& traffic_;
  std::vector<bool> reads_lines_;  // of steps that read each pixel of a kept map
  std::vector<KeptMap> maps_;
};

}  // namespace

Buffer<uint8_t> keep_maps(std::vector<Step>& steps, const std::vector<Traffic>& traffic) {
  return Keeper(steps, traffic).connect();
}

}  // namespace gatecast
