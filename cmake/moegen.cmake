# What every target of the project shares, and moegen_library(): one target a folder, with only its allowed links.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(moegen_flags INTERFACE)
target_compile_features(moegen_flags INTERFACE cxx_std_20)
target_include_directories(moegen_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
# The baseline of the shipped program; faster paths are single files with their own flags, chosen at run time.
target_compile_options(moegen_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=x86-64-v3>)
target_compile_options(moegen_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Woverloaded-virtual;-Wundef;-Wcast-align;-Wold-style-cast>")
# g++ 12 takes "x" + std::string for a copy onto itself (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(moegen_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(MOEGEN_WERROR)
  target_compile_options(moegen_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(MOEGEN_SANITIZE)
  target_compile_options(moegen_flags INTERFACE -fsanitize=${MOEGEN_SANITIZE} -fno-omit-frame-pointer -g1 -fno-sanitize-recover=all)
  target_link_options(moegen_flags INTERFACE -fsanitize=${MOEGEN_SANITIZE})
endif()

# moegen_library(name LINKS targets...): a static library of all *.cc of the current folder.
function(moegen_library name)
  cmake_parse_arguments(arg "" "" "LINKS;SOURCES" ${ARGN})
  if(NOT arg_SOURCES)
    file(GLOB arg_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  endif()
  add_library(moegen_${name} STATIC ${arg_SOURCES})
  target_link_libraries(moegen_${name} PUBLIC moegen_flags ${arg_LINKS})
endfunction()
